"""``spinesim shape``: fit statistical shape models of the spine, sample them, look at them, score them."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from .options import quiet_option, scheme_option, telling  # noqa: TID251 - relative, as it must be

if TYPE_CHECKING:
    from spinesim.shape.fitting import Fit
    from spinesim.shape.morphology_fitting import MorphologyFit

LEFT_OUT_NAMED = 20
"""So many of the label maps that were left out are named; the report names all."""

model_argument = click.argument("model", type=click.Path(path_type=Path))


@click.group(no_args_is_help=False)
def shape() -> None:
    """Statistical shape models: how neighbouring vertebrae stand on each other in a population.

    \b
    spinesim shape fit labels --out model.npz --levels T1-L5
    spinesim shape fit labels --out vertebrae.npz --morphology
    spinesim shape show model.npz --out modes.png
    spinesim shape score model.npz --csv scores.csv --png scores.png
    spinesim shape sample model.npz --count 100 --seed 7 --out samples.csv
    """  # noqa: D301 - click reads the backspace: the lines below it are kept as they are


@shape.command()
@click.argument("folder", type=click.Path(path_type=Path))
@click.option("--out", type=click.Path(path_type=Path), required=True, help="Model to write, .npz.")
@click.option("--modes", type=int, help="Modes of the model [default: two fewer than cases, at most 20].")
@click.option("--levels", help="Levels of the model, like T1-L5 [default: all that the label maps show].")
@click.option("--workers", type=click.IntRange(min=1), help="Processes [default: one a processor].")
@click.option(
    "--morphology", is_flag=True, help="Fit how single vertebrae are shaped, not how they stand on each other."
)
@scheme_option
@quiet_option
def fit(folder: Path, out: Path, quiet: bool, morphology: bool, **options: Any) -> None:
    """Fit a model to the label maps in FOLDER, at any depth: VerSe's, or any .nii.gz, .nii, .nrrd and .mha.

    Spines that were measured are kept beside the model, with a report of what was used and what was left out: a run
    that was killed goes on where it was.

    With --morphology each vertebra from C3 to L5 is registered to the shipped model's (some seconds each; needs the
    extra 'registration'), and each of its groups of levels gets a model.
    """
    from spinesim.shape.fitting import fit_folder, report_file
    from spinesim.shape.morphology_fitting import fit_morphology_folder

    given = {key: value for key, value in options.items() if value is not None}
    with telling(quiet) as told:
        if morphology:
            lines = _morphology_lines(fit_morphology_folder(folder, out, told=told, **given))
        else:
            lines = _fit_lines(fit_folder(folder, out, told=told, **given))
    if not quiet:
        click.echo("\n".join([*lines, f"report: {report_file(out)}", f"written: {out}"]))


def _fit_lines(done: Fit) -> list[str]:
    """What was used, what was left out and why, and what the model tells."""
    model, cases = done.model, len(done.members)
    told = model.gaussian.explained()
    return [
        f"cases: {cases} of {cases + len(done.left_out)} label maps, {done.anew} measured in this run",
        *_unused_lines(done),
        *done.remarks,
        f"levels: {model.levels[0].name} to {model.levels[-1].name}",
        f"modes: {len(told)}, which tell {100 * told.sum():.1f} % of the variance; the first {100 * told[0]:.1f} %",
    ]


def _morphology_lines(done: MorphologyFit) -> list[str]:
    """What was matched, what was left out and why, and what the model of each group tells."""
    return [
        f"vertebrae: {len(done.specimens)} of {len(done.bones)} label maps, {done.anew} matched in this run",
        *_unused_lines(done),
        *(
            f"{model.levels[0].name} to {model.levels[-1].name}: {model.cases} vertebrae, "
            f"{len(model.gaussian.explained())} modes, which tell {100 * model.gaussian.explained().sum():.1f} %"
            for model in done.models
        ),
    ]


def _unused_lines(done: Fit | MorphologyFit) -> list[str]:
    """What was left out and why, and what was passed over."""
    more, passed = len(done.left_out) - LEFT_OUT_NAMED, done.passed_over
    return [
        *(f"left out: {case.reason}" for case in done.left_out[:LEFT_OUT_NAMED]),
        *[f"left out: {more} more, named in the report"] * (more > 0),
        *[f"passed over: {passed} files that are not named as VerSe's label maps are"] * bool(passed),
    ]


@shape.command()
@model_argument
@click.option(
    "--report", type=click.Path(path_type=Path), help="Report of the fit [default: the one beside the model]."
)
@click.option("--modes", type=int, help="Most modes [default: the model's].")
@click.option(
    "--samples", type=click.IntRange(min=2), help="Draws for specificity [default: 1000; of a morphology model 100]."
)
@click.option("--seed", type=click.IntRange(min=0), default=0, show_default=True, help="Seed of the draws.")
@click.option("--csv", "csv_file", type=click.Path(path_type=Path), help="Write the table, with standard errors.")
@click.option("--png", "png_file", type=click.Path(path_type=Path), help="Draw the scores.")
@quiet_option
def score(
    model: Path,
    report: Path | None,
    seed: int,
    csv_file: Path | None,
    png_file: Path | None,
    quiet: bool,
    **options: Any,
) -> None:
    """Score MODEL on the cases that 'shape fit' kept: compactness, generalisation and specificity by modes.

    Compactness is the share of variance in so many components, generalisation the error on cases left out of the fit
    (lower is better), specificity the distance of samples to the nearest case (lower is better); Davies 2002, Styner
    2003. Lengths are mean distances of vertebrae's centres, angles those between vertebrae, after alignment; of a
    morphology model, whose groups of levels are scored one by one, mean distances of corresponding vertices.

    A shipped model (adult, scoliosis, morphology) is named: it holds no cases, so its scores are those of its card.
    """
    import numpy as np

    from spinesim.anatomy.report import check_names, write_csv
    from spinesim.series.shape_picture import draw_scores
    from spinesim.shape.fitting import read_fit
    from spinesim.shape.morphology_file import is_morphology
    from spinesim.shape.scores import score_model
    from spinesim.shape.shipped import read_shipped_scores

    check_names([csv_file, png_file], inputs=[model, report])
    if not model.exists() and (shipped := read_shipped_scores(str(model))) is not None:
        _tell_shipped(model, shipped, csv_file, png_file, quiet)
        return
    rng = np.random.default_rng(seed)
    given = {key: value for key, value in options.items() if value is not None}
    if is_morphology(model):
        _score_morphology(model, report, csv_file, png_file, quiet, rng=rng, **given)
        return
    done = read_fit(model, report)
    with telling(quiet) as told:
        scores = score_model(done.model, done.chains, told=told, rng=rng, **given)
    if csv_file:
        write_csv(scores.rows(), csv_file)
    if png_file:
        draw_scores(scores, png_file)
    if not quiet:
        click.echo("\n".join(_score_lines(scores.rows())))


def _tell_shipped(
    model: Path, rows: list[dict[str, str]], csv_file: Path | None, png_file: Path | None, quiet: bool
) -> None:
    """The scores that a shipped model came with, a column as wide as its longest cell."""
    from spinesim.anatomy.report import write_csv
    from spinesim.errors import ConfigError

    if png_file:
        raise ConfigError(f"--png: expected a model that 'shape fit' wrote, got {model}, which ships; take --csv")
    if csv_file:
        write_csv(rows, csv_file)
    if not quiet:
        table = [list(rows[0]), *(list(row.values()) for row in rows)]
        widths = [max(map(len, column)) for column in zip(*table, strict=True)]
        for line in table:
            click.echo("  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip())


def _score_morphology(
    model: Path, report: Path | None, csv_file: Path | None, png_file: Path | None, quiet: bool, **options: Any
) -> None:
    """Score the model of each group of levels."""
    from spinesim.anatomy.report import write_csv
    from spinesim.series.shape_picture import draw_group_scores
    from spinesim.shape.morphology_fitting import read_morphology_fit
    from spinesim.shape.morphology_scores import score_morphology

    rows = score_morphology(*read_morphology_fit(model, report), **options)
    if csv_file:
        write_csv(rows, csv_file)
    if png_file:
        draw_group_scores(rows, png_file)
    if not quiet:
        click.echo("levels   vertebrae  modes  compactness  generalisation  specificity")
        for row in rows:
            left = "·" if row["generalisation_mm"] is None else f"{row['generalisation_mm']:.2f} mm"
            click.echo(
                f"{row['levels']:<7}  {row['vertebrae']:9}  {row['modes']:5}  {row['compactness']:11.3f}  {left:>14}  "
                f"{row['specificity_mm']:8.2f} mm"
            )


def _score_lines(rows: list[dict[str, Any]]) -> list[str]:
    """The table as it is printed."""
    lines = ["modes  compactness  generalisation          specificity"]
    for row in rows:
        pairs = [
            "·".rjust(8) if row[f"{name}_mm"] is None else f"{row[f'{name}_mm']:5.2f} mm  {row[f'{name}_deg']:5.2f}°"
            for name in ("generalisation", "specificity")
        ]
        lines.append(f"{row['modes']:5}  {row['compactness']:11.3f}  {pairs[0]:<22}  {pairs[1]}".rstrip())
    return lines


@shape.command()
@model_argument
@click.option("--out", type=click.Path(path_type=Path), required=True, help="Picture to write, .png.")
@click.option("--level", default="L3", show_default=True, help="Level of a morphology model that is drawn.")
@quiet_option
def show(model: Path, out: Path, level: str, quiet: bool) -> None:
    """Draw the first four modes of MODEL at -2, 0 and +2 standard deviations.

    MODEL is a file, or the name of a shipped one: adult, scoliosis (poses, seen from the front and from the side), or
    morphology (one vertebra, seen from above, from the left and from behind).
    """
    from spinesim.anatomy.levels import parse_level
    from spinesim.anatomy.report import check_names
    from spinesim.series.morphology_picture import draw_morphology
    from spinesim.series.shape_picture import draw_modes
    from spinesim.shape.morphology import model_of
    from spinesim.shape.shipped import read_model, read_morphology_model

    check_names([out], inputs=[model])
    if (groups := read_morphology_model(model)) is not None:
        named = parse_level(level)
        draw_morphology(model_of(groups, named), named, f"{model.name}: {named.name}", out)
        if not quiet:
            click.echo(f"written: {out}")
        return
    fitted = read_model(model)
    title = f"{model.name}: {fitted.levels[0].name} to {fitted.levels[-1].name}, {fitted.cases} cases"
    draw_modes(fitted, title, out)
    if not quiet:
        click.echo(f"written: {out}")


@shape.command()
@model_argument
@click.option("--count", type=click.IntRange(min=1), default=100, show_default=True, help="Spines to draw.")
@click.option("--seed", type=click.IntRange(min=0), default=0, show_default=True, help="Seed of the draws.")
@click.option("--kind", help="Of one kind alone, where the model has kinds: 'Lenke 3', 'Lenke 1, 40-60 degrees'.")
@click.option("--out", type=click.Path(path_type=Path), required=True, help="Table (.csv) or tree (.json) to write.")
@click.option("--level", default="L3", show_default=True, help="Level of a morphology model that is drawn from.")
@quiet_option
def sample(model: Path, count: int, seed: int, kind: str | None, out: Path, level: str, quiet: bool) -> None:
    """Draw spines from MODEL: the pose of each level, the largest Cobb angle, kyphosis and lordosis.

    MODEL is a file, or the name of a shipped one: adult, scoliosis; or morphology: then vertebrae of one level are
    drawn, with sex, size to the mean, and measures in mm and degrees (.csv alone).

    Centres (mm) and rotation vectors (degrees) are about the patient's right, anterior and superior (x, y, z), from the
    centre of the lowest vertebra; those of a joint are in the frame of the vertebra below.
    """
    import numpy as np

    from spinesim.anatomy.levels import parse_level
    from spinesim.anatomy.report import check_names
    from spinesim.shape.morphology_samples import sample_vertebrae, write_table
    from spinesim.shape.samples import sample_spines, write_samples
    from spinesim.shape.shipped import read_model, read_morphology_model

    check_names([out], inputs=[model])
    rng = np.random.default_rng(seed)
    if (groups := read_morphology_model(model)) is not None:
        write_table(sample_vertebrae(groups, parse_level(level), count, rng=rng), out)
    else:
        fitted = read_model(model)
        fitted = fitted if kind is None else fitted.only(kind)
        write_samples(sample_spines(fitted, count, rng=rng), out)
    if not quiet:
        click.echo(f"written: {out}")
