"""Configurations and presets: one schema, and refusals in a sentence."""

from __future__ import annotations

import json
from pathlib import Path

import jsonschema
import pytest
import yaml
from click.testing import CliRunner

from spinesim.cli.main import main
from spinesim.pathology.configuration import configuration_schema, presets, read_configuration

ROOT = Path(__file__).resolve().parents[1]
FILE = ROOT / "assets" / "config.schema.json"


@pytest.fixture
def refused(tmp_path, monkeypatch):
    """Run ``simulate`` with the text of a configuration that must be refused, and give its sentence."""

    def blunder(*args, **more):
        pytest.fail("the scan was read")

    def run(text, name="asked.yaml"):
        Path(name).write_bytes(text if isinstance(text, bytes) else text.encode())
        done = CliRunner().invoke(main, ["simulate", "--config", name])
        assert done.exit_code == 2, done.exception or done.output
        assert done.stdout == ""
        (sentence,) = done.stderr.splitlines()
        return sentence.removeprefix(f"Error: {name}: ")

    monkeypatch.setattr("spinesim.phantom.build_phantom", blunder)
    monkeypatch.chdir(tmp_path)
    return run


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "expected the key 'pathologies', got None; see configs/ for examples"),
        ("35 degree scoliosis", "expected the key 'pathologies', got '35 degree scoliosis'; see configs/ for examples"),
        ("a: [", "expected YAML, got something else in line 1; see configs/ for examples"),
        (b"about: \xff\xfe", "expected YAML in UTF-8, got other bytes; save it as UTF-8"),
        ("pathologies: []", "expected a list under 'pathologies', got []; name one pathology at least"),
        ("pathologies: fracture", "expected a list under 'pathologies', got 'fracture'; name one pathology at least"),
        ("about: nothing", "expected a list under 'pathologies', got None; name one pathology at least"),
        ("pathology: []", "expected a known key, got 'pathology'; did you mean 'pathologies'?"),
        ("pathologies: [{level: L1}]", "pathologies[0]: expected keys with a 'kind' "),
        ("pathologies: [fracture]", "pathologies[0]: expected keys with a 'kind' "),
        ("pathologies: [{kind: fractur}]", "got 'fractur'; did you mean 'fracture'?"),
        ("pathologies: [{kind: [fracture]}]", "pathologies[0]: expected a kind among "),
        ("pathologies: [{kind: fracture, levle: L1}]", "a parameter of fracture, got 'levle'; did you mean 'level'?"),
        (
            "pathologies: [{kind: fracture, level: L1, loss_percent: many}]",
            "pathologies[0]: loss_percent: expected a valid number, unable to parse string as a number, got 'many'",
        ),
        (
            "pathologies: [{kind: fracture, level: L9, genant_grade: 1}]",
            "pathologies[0]: level: level: expected one of",
        ),
        ("pathologies: [{kind: fracture, level: L1}]", "expected either a loss of height or a Genant grade"),
        ("pathologies: [{kind: scoliosis, cobb_deg: 95, apex: T9}]", "cobb_deg: expected less than or equal to 90"),
        (
            "pathologies: [{kind: lesion, structure: L1, diameter_mm: 9, offset_mm: [.nan, 0, 0]}]",
            "offset_mm.0: expected a finite number, got nan",
        ),
        ("pathologies: [{kind: scoliosis, apex: T9}]", "pathologies[0]: cobb_deg: expected "),
        ("{seed: -1, pathologies: [{kind: scoliosis, cobb_deg: 9, apex: T9}]}", "seed: expected greater than or equal"),
        ("{about: 1, pathologies: [{kind: scoliosis, cobb_deg: 9, apex: T9}]}", "about: expected a valid string"),
        (
            "pathologies: [&f {kind: fracture, level: L1, genant_grade: 1}, *f]",
            "pathologies: expected each pathology once, got 2 times fracture at L1",
        ),
    ],
)
def test_what_is_no_configuration_is_refused_in_one_sentence(text, said, refused):
    assert said in refused(text)


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        ("nothing.yaml", "nothing.yaml: expected a YAML file, got none; give the right path or the name of a preset"),
        ("lenke1", "lenke1: expected a YAML file or a preset, got neither; did you mean 'lenke-1'?"),
    ],
)
def test_a_file_or_preset_that_is_not_there_is_named(asked, said, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    done = CliRunner().invoke(main, ["simulate", "--config", asked])
    assert (done.exit_code, done.stderr) == (2, f"Error: {said}\n")


def test_the_published_schema_is_that_of_the_code():
    assert FILE.read_text(encoding="utf-8") == json.dumps(configuration_schema(), indent=1) + "\n", (
        "write json.dumps(spinesim.pathology.configuration.configuration_schema(), indent=1) and a newline "
        "to assets/config.schema.json"
    )


@pytest.mark.parametrize("name", presets())
def test_a_preset_keeps_the_schema_and_says_what_it_is(name):
    schema = json.loads(FILE.read_text(encoding="utf-8"))
    validator = jsonschema.Draft202012Validator(schema)
    said = yaml.safe_load(presets()[name].read_text(encoding="utf-8"))
    validator.validate(said)
    assert not validator.is_valid(said | {"more": 1})
    assert read_configuration(name).about


def test_the_presets_are_listed():
    done = CliRunner().invoke(main, ["simulate", "--presets"])
    assert done.exit_code == 0
    named = [line.partition(": ")[0] for line in done.stdout.splitlines()]
    assert named == sorted(presets())
    assert {f"lenke-{number}" for number in range(1, 7)} <= set(named)


@pytest.mark.parametrize("level", [f"T{n}" for n in range(4, 13)] + ["L1", "L2", "L3", "L4"])
def test_presets_of_genants_grades_go_for_every_level_that_he_graded(level):
    for grade, name in enumerate(("mild", "moderate", "severe"), start=1):
        fracture = read_configuration(f"genant-{name}", [f"level={level}"]).pathology
        assert (fracture.level, fracture.genant_grade, fracture.type) == (level, grade, "wedge")


def test_a_value_is_changed_where_it_is_meant():
    both = read_configuration("scoliosis-with-fracture", ["2.level=T12", "cobb_deg=50"]).pathology.pathologies
    assert [getattr(part, "level", None) for part in both] == [None, "T12"]
    assert both[0].cobb_deg == 50
    discs = read_configuration("l4-l5-disc-degeneration", ["discs=[L2/L3]", "bridging=true"]).pathology
    assert (discs.discs, discs.bridging) == (("L2/L3",), True)


@pytest.mark.parametrize(
    ("preset", "change", "said"),
    [
        ("genant-mild", "level", "--set: expected a key and its value (level=T9), got 'level'"),
        (
            "genant-mild",
            "levle=T9",
            "--set: expected a parameter of its pathologies, got 'levle'; did you mean 'level'?",
        ),
        ("genant-mild", "2.level=T9", "--set: expected a parameter of pathology 2, got 'level'"),
        ("genant-mild", "level=[", "--set: expected a value of YAML for 'level', got '['"),
        ("genant-mild", "level=2020-13-45", "--set: expected a value of YAML for 'level', got '2020-13-45'"),
        ("genant-mild", "level=T99", "genant-mild: pathologies[0]: level: "),
        ("osteoporotic-fractures", "level=T9", "--set: expected one pathology that knows 'level', got"),
    ],
)
def test_a_change_that_cannot_be_made_is_refused(preset, change, said):
    done = CliRunner().invoke(main, ["simulate", "--config", preset, "--set", change])
    assert done.exit_code == 2, done.output
    assert done.stderr.startswith(f"Error: {said}")


def test_a_prompt_is_not_changed_but_said_otherwise():
    done = CliRunner().invoke(main, ["simulate", "--prompt", "wedge fracture of L1", "--set", "level=T9"])
    assert done.exit_code == 2
    assert "say it in the prompt" in done.stderr
