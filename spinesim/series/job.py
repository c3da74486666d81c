"""A job: from files, or the phantom, to a written case."""

from __future__ import annotations

import os
import time
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from spinesim.anatomy.reading import read_scan
from spinesim.anatomy.sampling import load_kernels
from spinesim.anatomy.scan import Scan
from spinesim.anatomy.writing import digest
from spinesim.errors import LabelError, OutputError, PathologyError
from spinesim.inpaint.brush import Brush, Inpainting
from spinesim.series.case import Case, OutputGrid, Told, simulate
from spinesim.series.claim import claimed
from spinesim.series.record import InputFile, Run
from spinesim.series.writer import check_claimed, write_claimed


@dataclass(frozen=True)
class Job:
    """What to read, what to do with it, and where to write.

    With neither ``ct`` nor ``labels`` the phantom is taken. ``prompt`` is the sentence that the
    pathology was read from.
    """

    ct: Path | None
    labels: Path | None
    pathology: BaseModel
    out: Path
    output: OutputGrid = field(default_factory=OutputGrid)
    seed: int = 0
    overwrite: bool = False
    compress: bool = True
    scheme: str = "auto"
    mapping: Path | Mapping[Any, Any] | None = None
    resample_labels: bool = False
    inpaint: Inpainting = "auto"
    brush: Brush = field(default_factory=Brush)
    device: str = "cpu"
    prompt: str | None = None


def run_job(job: Job, told: Told = lambda _: None) -> tuple[Case, dict[str, Path]]:
    """Read, simulate and write; nothing is written unless all of it succeeds.

    Raises
    ------
    SpinesimError
        One sentence that names the file and the remedy.
    """
    with claimed(job.out):
        return _run_claimed(job, told)


def _run_claimed(job: Job, told: Told) -> tuple[Case, dict[str, Path]]:
    began, started = time.perf_counter(), datetime.now(UTC).isoformat(timespec="seconds")
    check_claimed(job.out, overwrite=job.overwrite)
    _keep_inputs(job)
    told("reading" if job.labels else "building the phantom")
    files = {key: path for key, path in (("ct", job.ct), ("labels", job.labels)) if path is not None}
    with ThreadPoolExecutor(2) as beside:
        beside.submit(load_kernels)
        digests = beside.submit(lambda: {key: digest(path) for key, path in files.items()})
        scan = _scan(job)
        inputs = {key: InputFile(name=files[key].name, sha256=found) for key, found in digests.result().items()}
    try:
        case = simulate(
            scan,
            job.pathology,
            output=job.output,
            seed=job.seed,
            inpaint=job.inpaint,
            brush=job.brush,
            device=job.device,
            told=told,
        )
    except PathologyError as error:
        raise PathologyError(f"{scan.labels.source}: {error}") from error
    told("writing")
    run = Run(seconds=round(time.perf_counter() - began, 2), started=started)
    return case, write_claimed(
        case, job.out, overwrite=job.overwrite, compress=job.compress, inputs=inputs, run=run, prompt=job.prompt
    )


def _keep_inputs(job: Job) -> None:
    """Refuse to replace the folder that the input lies in.

    Raises
    ------
    OutputError
        When an input file lies in the folder to write to.
    """
    for path in (job.ct, job.labels):
        if path is not None and Path(os.path.realpath(path)).is_relative_to(os.path.realpath(job.out)):
            raise OutputError(
                f"{job.out}: expected a folder without the input, got the one of {path}; choose another --out"
            )


def _scan(job: Job) -> Scan:
    if job.ct is None and job.labels is None:
        return _phantom(job)
    if job.labels is None:
        raise LabelError(f"{job.ct}: expected a label map for this CT, got none; pass it with --labels")
    return read_scan(job.ct, job.labels, scheme=job.scheme, mapping=job.mapping, resample_labels=job.resample_labels)


def _phantom(job: Job) -> Scan:
    from spinesim.phantom import PhantomParameters, build_phantom, build_whole_phantom  # a quarter of what job imports

    parameters = PhantomParameters(seed=job.seed)
    if not getattr(job.pathology, "needs_structures", False):
        return build_phantom(parameters)
    phantom = build_whole_phantom(parameters)
    return Scan(phantom.structures, phantom.scan.image)
