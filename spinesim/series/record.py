"""The record of a case: what was asked, what was measured, and everything needed to do it again."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel, ConfigDict, Field

SCHEMA_VERSION = 1


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", json_schema_serialization_defaults_required=True)


class InputFile(_Part):
    """A file that went in: its name without its folder, and its SHA-256."""

    name: str
    sha256: str


class Geometry(_Part):
    """A grid: voxels along i, j, k, and the affine from voxel indices to RAS millimetres."""

    shape: tuple[int, int, int]
    spacing_mm: tuple[float, float, float]
    world_from_voxel: list[list[float]]


class Goal(_Part):
    """One number that was asked for, with what the input had and what the output has."""

    asked: float
    measured: float
    native: float


class VertebraMotion(_Part):
    """How one level moved: ``new_from_old`` (RAS, mm; with the stretch of its growth), and how the field keeps to it.

    ``rigid`` tells that it moved as a whole, and its form was kept but for growth.
    """

    level: str
    new_from_old: list[list[float]]
    rigid: bool
    rms_mm: float | None = Field(
        description="RMS distance (after growth) of the field to its best rigid motion over the bone's output voxels"
    )
    volume_ratio: float | None = Field(description="Output volume over input volume (times growth)")


class FlowReport(_Part):
    """How the field came out."""

    jacobian_min: float
    jacobian_max: float
    steps: int
    shell_mm: float
    power: float
    node_spacing_mm: float
    mended_nodes: int
    device: str = Field(description="cpu: compiled loops; else the device of PyTorch that followed the flow")
    interpolation: str = Field(default="linear", description="How the CT was looked up: linear, or bspline (cubic)")


class Rule(_Part):
    """A rule of plausibility: where it comes nearest to being broken, and whether it is kept."""

    rule: str
    place: str
    value: float
    limit: float
    unit: str
    kept: bool
    hard: bool = Field(description="Whether breaking it refuses the result, if it may not be implausible")


class UnknownRegion(_Part):
    """Voxels that the warp could not know, for one reason, in a level, in a lesion, or (no place) anywhere else."""

    reason: str
    place: str
    voxels: int
    volume_ml: float


class PaintedByNetwork(_Part):
    """What a network painted."""

    method: str = Field(description="diffusion or pix2pix")
    weights: str
    steps: int
    reasons: list[str] = Field(description="Why what it painted was unknown; the seam around goes with it")
    voxels: int


class Inpainted(_Part):
    """What was unknown, and how it was painted."""

    method: str = Field(description="none; noise: what interpolation took of it was given back; or that of the network")
    noise_hu: float | None = Field(description="Noise of the scan (standard deviation), where it was given back")
    network: PaintedByNetwork | None = Field(default=None, description="What a network painted, if one did")
    no_network: str | None = Field(default=None, description="Why no network painted, where one was wanted")
    regions: list[UnknownRegion]


class Run(_Part):
    """What may differ between two runs of the same case."""

    seconds: float
    started: str


class Record(_Part):
    """The record of one case, written beside its volumes as JSON."""

    schema_version: int = SCHEMA_VERSION
    spinesim_version: str
    versions: dict[str, str]
    inputs: dict[str, InputFile]
    pathology: str
    parameters: dict[str, Any]
    prompt: str | None = Field(default=None, description="The sentence that the parameters were read from, if one was")
    seed: int
    goals: dict[str, Goal]
    plan: dict[str, Any]
    outcome: dict[str, Any] = Field(description="What was measured of the pathology beside its goals")
    geometry_in: Geometry
    geometry_out: Geometry
    flow: FlowReport
    vertebrae: list[VertebraMotion]
    labels_in: list[int]
    labels_out: list[int]
    unknown_voxels: int = Field(description="Voxels of the unknown mask, for any reason, lost noise included")
    inpaint: Inpainted
    measures_before: dict[str, Any]
    measures_after: dict[str, Any]
    plausibility: list[Rule]
    findings: list[str]
    warnings: list[str]
    files: dict[str, str] = Field(
        description="Name of each file by what it is: ct, labels, unknown, field, record, picture; where lesions grew, "
        "lesions (their mask) and lesions_picture"
    )
    run: Run


def record_schema() -> dict[str, Any]:
    """JSON Schema (draft 2020-12) of the record as it is written; shipped as ``spinesim/assets/record.schema.json``."""
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **Record.model_json_schema(mode="serialization")}
