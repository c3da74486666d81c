"""A prompt says exactly what it says: every word is understood, or it is refused by its name."""

from __future__ import annotations

import json
import re
from dataclasses import replace

import pytest
from click.testing import CliRunner
from hypothesis import assume, given
from hypothesis import strategies as st

import spinesim
from spinesim.anatomy.schemes import STRUCTURES
from spinesim.cli.main import main
from spinesim.errors import ConfigError
from spinesim.pathology import prompt as prompt_room
from spinesim.pathology import words
from spinesim.pathology.disc import DiscDegeneration
from spinesim.pathology.fracture import Fracture
from spinesim.pathology.growth import Growth
from spinesim.pathology.lesion import Lesion
from spinesim.pathology.library import kinds, tell_pathology
from spinesim.pathology.process import ProcessFracture
from spinesim.pathology.prompt import read_prompt, understand
from spinesim.pathology.sagittal import Sagittal
from spinesim.pathology.scoliosis import Scoliosis
from spinesim.pathology.slip import Spondylolisthesis
from spinesim.pathology.vocabulary import Said, vocabularies
from spinesim.series import job as job_room


def curve(cobb_deg, apex, direction=None, **more):
    return Scoliosis(cobb_deg=cobb_deg, apex=apex, direction=direction, **more)


def broken(level, genant_grade=None, **more):
    return Fracture(level=level, genant_grade=genant_grade, **more)


UNDERSTOOD = {
    # processes
    "fracture of the spinous process of L2": [ProcessFracture(level="L2", process="spinous")],
    "left transverse process fracture of L3, displaced by 6 mm": [
        ProcessFracture(level="L3", process="left transverse", displacement_mm=6)
    ],
    "an AO type A0 fracture of L1": [ProcessFracture(level="L1")],
    # lesions
    "simulate a 2 cm growth in the left upper lobe with a 6-month growth pattern": [
        Lesion(structure="lung_upper_lobe_left", diameter_mm=20, over_months=6)
    ],
    "a sclerotic metastasis in L3, 15 mm in diameter": [Lesion(structure="L3", diameter_mm=15, type="sclerotic")],
    "three sclerotic metastases in L3, 8 mm": [Lesion(structure="L3", diameter_mm=8, type="sclerotic")] * 3,
    "two lesions in L2 of 8 mm and a lesion in L3 of 10 mm": [
        *[Lesion(structure="L2", diameter_mm=8)] * 2,
        Lesion(structure="L3", diameter_mm=10),
    ],
    "2 nodules of 1 cm in the liver and three of 9 mm in L3": [
        *[Lesion(structure="liver", diameter_mm=10)] * 2,
        *[Lesion(structure="L3", diameter_mm=9)] * 3,
    ],
    "lytic lesions of T9 (12 mm) and L1 (2 cm), expansile": [
        Lesion(structure="T9", diameter_mm=12, type="lytic"),
        Lesion(structure="L1", diameter_mm=20, type="lytic", expansion=0.4),
    ],
    "a spiculated nodule of 1.5 ml in the right lower lobe, volume doubling in 200 days": [
        Lesion(structure="lung_lower_lobe_right", volume_ml=1.5, spiculation=0.7, doubling_days=200)
    ],
    "30 degree scoliosis at T9 with a 10 mm posterior lytic lesion of T9 on the left": [
        curve(30, "T9"),
        Lesion(structure="T9", diameter_mm=10, type="lytic", position="posterior", side="left"),
    ],
    "1 cm nodule in the left lower lobe, doubling every 90 days": [
        Lesion(structure="lung_lower_lobe_left", diameter_mm=10, doubling_days=90)
    ],
    "a 3 cm smooth mass in the liver": [Lesion(structure="liver", diameter_mm=30, irregularity=0)],
    "lytic lesion of L1, 15 mm, over 12 months, seen at 6 months": [
        Lesion(structure="L1", diameter_mm=15, type="lytic", over_months=12, months=6)
    ],
    "2 cm part-solid nodule in the right upper lobe, growing over 2 years, after 18 months of 2 years, gompertz": [
        Lesion(
            structure="lung_upper_lobe_right",
            diameter_mm=20,
            type="part-solid",
            over_months=24,
            months=18,
            law="gompertz",
        )
    ],
    "a 1 cm metastasis in the left fifth rib and one in the right psoas, 2 ml": [
        Lesion(structure="rib_left_5", diameter_mm=10),
        Lesion(structure="iliopsoas_right", volume_ml=2),
    ],
    "a lytic lesion of L1, 2 cm, with breach of the cortex": [
        Lesion(structure="L1", diameter_mm=20, type="lytic", breach=True)
    ],
    # growing up
    "growth from 10 to 14 years, girl": [Growth(sex="female", from_age=10, to_age=14)],
    "growth of a 10 year old boy to 14 years": [Growth(sex="male", from_age=10, to_age=14)],
    "skeletal growth of a girl from age 10 to 14": [Growth(sex="female", from_age=10, to_age=14)],
    "a girl growing from 10 to 14 with a mild fracture of L1": [
        Growth(sex="female", from_age=10, to_age=14),
        Fracture(level="L1", genant_grade=1),
    ],
    "growth of a girl from age 10 to 14": [Growth(sex="female", from_age=10, to_age=14)],
    "a boy growing from 12 to 15 years": [Growth(sex="male", from_age=12, to_age=15)],
    "growth spurt of a girl, aged 11 years, over 18 months": [Growth(sex="female", from_age=11, to_age=12.5)],
    "a girl growing from 11 to 13, with a 40 degree right scoliosis at T8": [
        Growth(sex="female", from_age=11, to_age=13),
        curve(40, "T8", "right"),
    ],
    # curves: size, side, apex
    "35 degree right thoracic scoliosis, apex T9": [curve(35, "T9", "right")],
    "35° scoliosis at T9": [curve(35, "T9")],
    "scoliosis of 35 deg. with apex Th9": [curve(35, "T9")],
    "thirty-five degree left scoliosis, apex D9": [curve(35, "T9", "left")],
    "Cobb 35 at T9": [curve(35, "T9")],
    "A curve with a Cobb angle of 42.5 degrees and its apex at the ninth thoracic vertebra": [curve(42.5, "T9")],
    "35.5º right-sided curvature (apex: T 10)": [curve(35.5, "T10", "right")],
    "dextroscoliosis of 30 degrees, apex T8": [curve(30, "T8", "right")],
    "40° levoscoliosis with apex at the T8-T9 disc": [curve(40, "T8/T9", "left")],
    "40 degree curve at T8/9, convex to the left": [curve(40, "T8/T9", "left")],
    "scoliosis, 40 degrees, apical disc between T8 and T9, dextroconvex": [curve(40, "T8/T9", "right")],
    "30 degree scoliosis centred on L2, concave to the left": [curve(30, "L2", "right")],
    "Adolescent idiopathic scoliosis: a 35 degree curve with right convexity at T9": [curve(35, "T9", "right")],
    "right thoracic scoliosis with a Cobb angle of 35 degrees": [curve(35, "T8/T9", "right")],
    # curves: what comes with them
    "45 degree lumbar curve": [curve(45, "L2")],
    "40 degree thoracolumbar curve to the left": [curve(40, "T12", "left")],
    "25 degree upper thoracic curve": [curve(25, "T3")],
    "35 degree curve from T5 to T11, apex T8": [curve(35, "T8", upper_end="T5", lower_end="T11")],
    "scoliosis of 40 degrees between T6 and T12, apex T9": [curve(40, "T9", upper_end="T6", lower_end="T12")],
    "40 degree curve T5-T12 with apex T9": [curve(40, "T9", upper_end="T5", lower_end="T12")],
    "40 degree scoliosis at T9, upper end vertebra T6": [curve(40, "T9", upper_end="T6")],
    "45 degree scoliosis at T8 with 62 % vertebral wedging": [curve(45, "T8", vertebral_share=0.62)],
    "45 degree scoliosis at T8, 30 percent by wedged vertebrae": [curve(45, "T8", vertebral_share=0.3)],
    "45 degree scoliosis at T9, shifted 1.5 cm to the left": [curve(45, "T9", offset_mm=-15)],
    "45 degree scoliosis at T9 with a trunk shift of 10 mm to the right": [curve(45, "T9", offset_mm=10)],
    "45 degree scoliosis at T9 without rotation": [curve(45, "T9", rotation_per_cobb=0)],
    "45 degree scoliosis at T9, rotation of 0.4 per degree": [curve(45, "T9", rotation_per_cobb=0.4)],
    "45 degree scoliosis at T9 with variability 0.5": [curve(45, "T9", variability=0.5)],
    # several curves
    "35 degree right thoracic scoliosis, apex T9, with a 25 degree left lumbar curve at L2": [
        curve(35, "T9", "right", also=("25@L2",))
    ],
    "50 degree right thoracic and 30 degree left lumbar curve": [curve(50, "T8/T9", "right", also=("30@L2",))],
    "30 degree left lumbar curve and a 50 degree curve at T8": [curve(50, "T8", "right", also=("30@L2",))],
    "50 degree curve at T8, 30 degrees at L2, 25 degrees at T3": [curve(50, "T8", also=("30@L2", "25@T3"))],
    "dextroscoliosis of 30 degrees, apex T9, 20 degrees lumbar": [curve(30, "T9", "right", also=("20@L2",))],
    "double major scoliosis with curves of 50 degrees at T8 and 40 degrees at L2": [curve(50, "T8", also=("40@L2",))],
    "right thoracic curve of 45 degrees and compensatory left lumbar curve of 25 degrees": [
        curve(45, "T8/T9", "right", also=("25@L2",))
    ],
    "Lenke 1 scoliosis of 45 degrees": [curve(45, "T8")],
    "Lenke type 2, 50 degrees": [curve(50, "T8", also=("25@T3",))],
    "Lenke 3: 50 degrees": [curve(50, "T8", also=("30@L2",))],
    "Lenke 4, 60 degrees": [curve(60, "T8", also=("36@L2", "30@T3"))],
    "Lenke 5 with 40 degrees at T12": [curve(40, "T12")],
    "Lenke 6 scoliosis: 50 degree left lumbar curve and 35 degree right thoracic curve": [
        curve(50, "L2", "left", also=("35@T8",))
    ],
    # fractures: type and size
    "moderate wedge fracture of L1": [broken("L1", 2)],
    "Genant grade 3 wedge fracture of the first lumbar vertebra": [broken("L1", 3)],
    "grade II compression fracture of D12": [broken("T12", 2)],
    "mild codfish vertebra of T11": [broken("T11", 1, type="biconcave")],
    "severe crush fracture of T12": [broken("T12", 3, type="crush")],
    "wedge fracture of L1 with 30 % loss of height": [broken("L1", loss_percent=30)],
    "L1 fracture, height loss of 33 percent": [broken("L1", loss_percent=33)],
    "A2 fracture T12 20%": [broken("T12", ao="A2", loss_percent=20)],
    "burst fracture of L1, 40 % height loss": [broken("L1", ao="A3", loss_percent=40)],
    "complete burst fracture of L2 with 40% height loss": [broken("L2", ao="A4", loss_percent=40)],
    "L1 burst A4, severe": [broken("L1", 3, ao="A4")],
    "pincer fracture of L2 with 25 % height loss and 3 mm split": [broken("L2", ao="A2", loss_percent=25, split_mm=3)],
    "AO type A1 fracture of L1 that has lost 25 % of its height": [broken("L1", ao="A1", loss_percent=25)],
    # fractures: place, displacement, age
    "moderate wedge fracture of L1, right sided": [broken("L1", 2, position="right")],
    "moderate wedge fracture of the inferior end plate of L1": [broken("L1", 2, plates="inferior")],
    "severe wedge fracture of L1 of both endplates": [broken("L1", 3, plates="both")],
    "severe fracture of L1, superior and inferior end plate": [broken("L1", 3, plates="both")],
    "severe fracture of L1 with 4 mm of retropulsion": [broken("L1", 3, retropulsion_mm=4)],
    "A3 fracture of L1, severe, without retropulsion": [broken("L1", 3, ao="A3", retropulsion_mm=0)],
    "severe fracture of L1 with retropulsion": [broken("L1", 3, retropulsion_mm=3)],
    "severe fracture of L1 with a cortical step of 0.2 cm": [broken("L1", 3, cortical_step_mm=2)],
    "fresh severe fracture of L1": [broken("L1", 3)],
    "old mild fracture of L1": [broken("L1", 1, age_months=6)],
    "6 months old mild fracture of L1": [broken("L1", 1, age_months=6)],
    "healed mild fracture of L1": [broken("L1", 1, age_months=12)],
    "mild fracture of L1, half a year old, with a fluid cleft": [broken("L1", 1, age_months=6, cleft="fluid")],
    "mild fracture of L1 which is two years old, vacuum cleft": [broken("L1", 1, age_months=24, cleft="gas")],
    "moderate fracture of L1, 8 weeks after the injury": [broken("L1", 2, age_months=1.84)],
    # several fractures
    "severe fractures of T8 and L1": [broken("T8", 3), broken("L1", 3)],
    "three mild fractures of T7, T8 and T12": [broken("T7", 1), broken("T8", 1), broken("T12", 1)],
    "acute moderate fractures of T11 to L1": [broken("T11", 2), broken("T12", 2), broken("L1", 2)],
    "a mild T8 and a moderate L1 fracture": [broken("T8", 1), broken("L1", 2)],
    "wedge fractures of T8 (22 %) and L1 (45 %)": [broken("T8", loss_percent=22), broken("L1", loss_percent=45)],
    "35 degree right scoliosis at T9 with fractures at T12 and L1, both moderate": [
        curve(35, "T9", "right"),
        broken("T12", 2),
        broken("L1", 2),
    ],
    "fractures: mild T8 and severe L1": [broken("T8", 1), broken("L1", 3)],
    "a mild biconcave fracture of T8 and a severe one of L1": [
        broken("T8", 1, type="biconcave"),
        broken("L1", 3, type="biconcave"),
    ],
    "mild wedge fracture of T8 with moderate crush fracture of L1": [broken("T8", 1), broken("L1", 2, type="crush")],
    # the sagittal profile, slips and discs
    "60 degree kyphosis from T4 to T12": [Sagittal(angle_deg=60)],
    "kyphosis of 60 degrees between T5 and T11": [Sagittal(upper="T5", lower="T11", angle_deg=60)],
    "lumbar lordosis of 30 degrees": [Sagittal(upper="L1", lower="S", angle_deg=-30)],
    "flat back syndrome, 25 degrees": [Sagittal(upper="L1", lower="S", angle_deg=-25)],
    "flat back, 25 degrees": [Sagittal(upper="L1", lower="S", angle_deg=-25)],
    "Scheuermann's disease with 65 degrees": [Sagittal(angle_deg=65, wedged=("T7", "T8", "T9"), wedge_deg=9)],
    "Scheuermann kyphosis of 65 degrees, T8-T10 wedged, wedged by 6 degrees each": [
        Sagittal(angle_deg=65, wedged=("T8", "T9", "T10"), wedge_deg=6)
    ],
    "grade 2 spondylolisthesis of L5": [Spondylolisthesis(level="L5", meyerding_grade=2)],
    "isthmic spondylolisthesis of L5 on S1, Meyerding grade I": [
        Spondylolisthesis(level="L5", meyerding_grade=1, pars_defect=True)
    ],
    "degenerative slip of L4 by 18 percent": [Spondylolisthesis(level="L4", slip_percent=18, pars_defect=False)],
    "retrolisthesis at L3/L4, 12 %": [Spondylolisthesis(level="L3", slip_percent=12, direction="backward")],
    "30 % slip of L5 with a slip angle of 15 degrees": [
        Spondylolisthesis(level="L5", slip_percent=30, slip_angle_deg=15)
    ],
    "Pfirrmann grade 4 disc degeneration at L4/L5": [DiscDegeneration(discs=("L4/L5",), pfirrmann_grade=4)],
    "degenerated discs L3/L4 and L4/L5, Pfirrmann V": [DiscDegeneration(discs=("L3/L4", "L4/L5"), pfirrmann_grade=5)],
    "disc degeneration at L4-L5 with 40 % height loss, vacuum phenomenon and osteophytes of 4 mm": [
        DiscDegeneration(discs=("L4/L5",), loss_percent=40, vacuum="full", osteophyte_mm=4)
    ],
    "collapsed disc at L3/L4 with bridging anterior osteophytes": [
        DiscDegeneration(discs=("L3/L4",), pfirrmann_grade=5, osteophyte_sides=("anterior",), bridging=True)
    ],
    "disc degeneration of L4/L5 with end-plate sclerosis of 200 HU and 5 mm osteophytes on the left": [
        DiscDegeneration(discs=("L4/L5",), sclerosis_hu=200, osteophyte_mm=5, osteophyte_sides=("left",))
    ],
    "Pfirrmann 3 disc degeneration at L4/L5 with anterior osteophytes and sclerosis": [
        DiscDegeneration(
            discs=("L4/L5",), pfirrmann_grade=3, osteophyte_mm=2, osteophyte_sides=("anterior",), sclerosis_hu=100
        )
    ],
    "degenerative disc disease L4/L5, 22 % loss of height": [DiscDegeneration(discs=("L4/L5",), loss_percent=22)],
    "collapsed disc at L4/L5 without osteophytes": [
        DiscDegeneration(discs=("L4/L5",), pfirrmann_grade=5, osteophyte_mm=0)
    ],
    # together
    "30 degree scoliosis at T9, disc degeneration at L4/L5 and a mild fracture of T12": [
        curve(30, "T9"),
        DiscDegeneration(discs=("L4/L5",)),
        broken("T12", 1),
    ],
    "35 degree right thoracic scoliosis, apex T9, with a moderate wedge fracture of L1": [
        curve(35, "T9", "right"),
        broken("L1", 2),
    ],
    "Please simulate a severe L1 fracture and a 20 degree scoliosis at T9!": [curve(20, "T9"), broken("L1", 3)],
    "45 degree scoliosis with apex T9 and a mild biconcave fracture at the apex": [
        curve(45, "T9"),
        broken("T9", 1, type="biconcave"),
    ],
    "no scoliosis, severe fracture of L1, nothing else": [broken("L1", 3)],
    "35 degree scoliosis at T9 with no other curves": [curve(35, "T9")],
}

REFUSED = {
    # words that are not understood
    "": "expected a pathology (growth, scoliosis, ",
    "35 degree wobbly scoliosis at T9": "got 'wobbly'",
    "35 degree scolosis at T9": "got 'scolosis'; did you mean 'scoliosis'",
    "wobbly and frobnicated 35 degree scoliosis at T9": "got 'wobbly' and 'frobnicated'",
    "35 degree scoliosis at T14": "got 'T14'; did you mean 'T4'",
    "fracture of L9, severe": "got 'L9'; did you mean 'L6'",
    "-35 degree scoliosis at T9": "got '-35'",
    "Lenke 1A scoliosis of 40 degrees": "got 'Lenke' and '1A'",
    "35 to 40 degree scoliosis at T9": "got 'to'",
    # what is not asked for whole
    "35 degrees at T9": "expected the name of what '35 degrees T9' belongs to",
    "right thoracic scoliosis": "expected the Cobb angle of each curve",
    "35 degree scoliosis": "expected an apex or a region",
    "Lenke 2 scoliosis": "expected the Cobb angle of the thoracic curve of Lenke type 2",
    "severe wedge fracture": "expected a level of each fracture",
    "kyphosis from T4 to T12": "expected the angle of each kyphosis",
    "spondylolisthesis of grade 2": "expected the level of each slip",
    "spondylolisthesis of L5": "expected the size of each slip",
    "Pfirrmann 4 disc degeneration": "expected the disc of each degeneration",
    "wedge fracture of L1": "expected the size of each fracture",
    "double major scoliosis of 50 degrees at T8": "expected as many curves as 'double major' has, got 1",
    "wedge fractures of T8 (22 %) and L1 (45 %), all old": "expected 'all' of fractures that are said together",
    "mild fracture of T8 and crush of L1": "expected the size of each fracture",
    "mild T8 and crush L1 fracture": "expected the size of each fracture",
    "three severe fractures of T8 and L1": "expected three levels, got T8, L1",
    "severe fracture at the apex": "expected a vertebra as the apex to fracture, got no scoliosis",
    "skeletal growth from age 10 to 14": "expected the sex",
    "growth from 10 to 14 years": "expected the sex",
    "a girl growing up from 10 years": "expected both ages of skeletal growth",
    "skeletal growth of a girl from 14 to 10": "expected an age to grow to above 14",
    "skeletal growth of a woman from 17 to 20": "expected an age to grow from below 16",
    "a girl growing from 10 to 14 with a fracture of the spinous process of L1": "expected no growth together with",
    "a lytic metastasis of 2 cm": "expected what each lesion is in",
    "a lytic metastasis in L3": "expected the size of each lesion",
    "two lesions in L2 of 8 mm and one in L3 of 10 mm": "got 'two' of more than one",
    "two lytic lesions of T9 (12 mm) and L1 (2 cm)": "expected how many lesions each structure has",
    "a 2 cm lesion of L3, 3 cm": "got '2 cm' and '3 cm' of one lesion",
    "spinous process fracture": "expected the level of each broken process",
    # contradictions
    "35 degree 40 degree scoliosis at T9": "got '35 degree' and '40 degree' of one scoliosis",
    "35 degree scoliosis at T9, 30 degrees": "got '35 degree' and '30 degrees' of one scoliosis",
    "left right 30 degree scoliosis at T9": "got 'left' and 'right' of one scoliosis",
    "severe wedge biconcave fracture of L1": "got 'wedge' and 'biconcave' of one fracture",
    "mild severe fracture of L1": "got 'mild' and 'severe' of one fracture",
    "moderate fracture of L1 with 60 % height loss": "either a loss of height or a Genant grade",
    "burst A1 fracture of L1, mild": "expected a burst fracture as A3 or A4, got A1",
    "A1 crush fracture of L1, mild": "expected the type wedge of AO A1, got crush",
    "30 degree thoracic scoliosis with apex L3": "expected a thoracic apex, got 'with apex L3'",
    "35 degree left scoliosis at T9 with a 20 degree left curve at L2": "convex to opposite sides",
    "50 degree Lenke 5 curve with a 30 degree curve at T3": "got one that is upper thoracic",
    "mild fracture of L1 and L1": "got 2 times fracture at L1",
    "35 degree scoliosis at T9 seed 3, seed 4": "got 'seed 3' and 'seed 4' of one prompt",
    "no fracture, severe fracture of L1": "got 'no fracture' beside it",
    "collapsed disc at L4/L5, osteophytes, no osteophytes": "got 'osteophytes' and 'no osteophytes' of one degenerated",
    "35 degree scoliosis T9 wedge fracture L1": "expected one pathology in a clause, got 'scoliosis' and 'fracture'",
    "35 degree burst scoliosis at T9": "expected words on scoliosis, got 'burst'",
    # what shall not be there
    "35 degree scoliosis at T9 without kyphosis": "got 'without kyphosis'; leave out",
    "scoliosis of 35 degrees, not at T9": "got 'not at T9'; leave out",
    # what cannot be simulated, or not so
    "95 degree scoliosis at T9": "cobb_deg: expected less than or equal to 90, got 95",
    "35 degree scoliosis at T9 with a 25 degree curve at T10": "expected apices 3 levels apart",
    "severe fracture of C2": "from C3 to L6, got C2",
    "severe fracture of L1 with 2 cm retropulsion": "retropulsion_mm: expected less than or equal to 8, got 20",
    "Meyerding grade 5 slip of L5": "meyerding_grade: expected 1, 2, 3 or 4, got 5",
    "Pfirrmann 2 disc degeneration of L4/L5": "pfirrmann_grade: expected 3, 4 or 5, got 2",
    "Lenke 7 scoliosis of 40 degrees": "expected a Lenke type from 1 to 6, got 'Lenke 7'",
}

ELSEWHERE = {
    "simulate a 2 cm growth in the left upper lobe with a 6-month growth pattern": ("lesion", "growth"),
    "a sclerotic metastasis in L3, 15 mm in diameter": ("lesion", "metastasis"),
    "35 degree scoliosis at T9 with spondylolisthesis of L5": ("spondylolisthesis", "spondylolisthesis"),
    "60 degree kyphosis from T4 to T12": ("sagittal", "kyphosis"),
    "Scheuermann's disease": ("sagittal", "Scheuermann's disease"),
    "Pfirrmann grade 4 disc degeneration at L4/L5": ("disc", "disc degeneration"),
    "skeletal growth of a girl from age 10 to 14": ("growth", "skeletal growth"),
}


@pytest.mark.parametrize("text", UNDERSTOOD)
def test_a_prompt_gives_its_parameters(text):
    assert [tell_pathology(each) for each in read_prompt(text).pathologies] == [
        tell_pathology(each) for each in UNDERSTOOD[text]
    ]


@pytest.mark.parametrize("text", UNDERSTOOD)
def test_writing_it_otherwise_changes_nothing(text):
    asked = read_prompt(text).pathologies
    assert read_prompt(text.upper()).pathologies == asked
    assert read_prompt(f'  "{text.replace(" ", "  ")}" ').pathologies == asked


def test_every_structure_of_totalsegmentator_can_be_asked_for_by_its_name():
    for structure in STRUCTURES:
        said = structure.removeprefix("vertebrae_").replace("_", " ")
        if structure.startswith("lung"):
            said = " ".join(structure.split("_")[i] for i in (3, 1, 2))
        if structure.startswith("rib"):
            said = " ".join(structure.split("_")[i] for i in (1, 0, 2))
        (lesion,) = read_prompt(f"a 1 cm lesion in the {said}").pathologies
        named = {"sacrum": "S"}.get(structure, structure)  # a level, where it is one
        assert tell_pathology(lesion) == tell_pathology(Lesion(structure=named, diameter_mm=10)), said


def test_there_are_prompts_enough():
    assert len(UNDERSTOOD) >= 60
    assert len(REFUSED) >= 20


@pytest.fixture
def no_reading(monkeypatch):
    """A refusal comes before any file is read or the phantom is built."""

    def blunder(*args, **more):
        pytest.fail("the scan was read")

    monkeypatch.setattr(job_room, "read_scan", blunder)
    monkeypatch.setattr("spinesim.phantom.build_phantom", blunder)


def refusal(*args):
    """Run ``simulate`` with options that must be refused, and give its sentence."""
    done = CliRunner().invoke(main, ["simulate", *args])
    assert done.exit_code == 2, done.exception or done.output
    assert done.stdout == ""
    (sentence,) = done.stderr.splitlines()
    return sentence


@pytest.mark.parametrize("text", REFUSED)
@pytest.mark.usefixtures("no_reading")
def test_a_prompt_that_says_something_else_is_refused_in_one_sentence(text):
    sentence = refusal("--prompt", text)
    assert sentence.startswith("Error: prompt: ")
    assert REFUSED[text] in sentence


@pytest.mark.parametrize("text", ELSEWHERE)
@pytest.mark.usefixtures("no_reading")
def test_what_is_not_simulated_yet_is_told_so(text, monkeypatch):
    kind, said = ELSEWHERE[text]
    without = {name: found for name, found in kinds().items() if name != kind}
    monkeypatch.setattr(prompt_room, "kinds", lambda: without)
    sentence = refusal("--prompt", text)
    assert f"got {said!r};" in sentence or f'got "{said}";' in sentence
    assert sentence.endswith(f"{vocabularies()[kind].called} is not simulated yet")


@pytest.mark.parametrize("text", ELSEWHERE)
def test_a_kind_without_a_reader_of_prompts_is_sent_to_the_configuration(text, monkeypatch):
    kind, _ = ELSEWHERE[text]
    silent = replace(vocabularies()[kind], make=None)
    monkeypatch.setattr(prompt_room, "vocabularies", lambda: {**vocabularies(), kind: silent})
    with pytest.raises(ConfigError, match=f"ask for .*{silent.called} in a YAML file with --config"):
        read_prompt(text)


@pytest.mark.usefixtures("no_reading")
def test_a_prompt_or_a_configuration_is_asked_for_not_both():
    both = "expected either --config or --prompt, got both"
    assert both in refusal("--config", "lenke-1", "--prompt", "35 degree scoliosis at T9")
    assert "expected either --config or --prompt, got neither" in refusal()


# --- any prompt -------------------------------------------------------------------------------------------------------

LEVELS = ("T5", "T8", "T11", "T12", "L1", "L2", "L3")
SAMPLES = {
    "number": ("0.3", "1", "one"),
    "whole": ("1", "2", "3"),
    "angle": ("35 degrees", "35°", "thirty-five degree"),
    "percent": ("22 %", "35%", "forty percent"),
    "length": ("2 mm", "0.3 cm", "two millimetres"),
    "volume": ("2 ml", "0.5 cc", "three millilitres"),
    "duration": ("6 months", "2 years", "a week", "half a year", "three-month"),
    "side": ("left", "right"),
    "level": ("T9", "Th 8", "L1", "first lumbar"),
    "pair": ("T8/T9", "T8-9", "L1-L2"),
    "range": ("T6 to T12", "T11 through L1"),
    "disc": ("T8/T9 disc", "disc between L1 and L2"),
}
"""Quantities to write in phrases."""

KNOWN = set().union(
    *(each.words for vocabulary in vocabularies().values() for each in vocabulary.phrases),
    *(each.words for each in (words.FILLERS, words.SEPARATORS, words.DENIALS, *words.COMMON)),
)


@st.composite
def sayings(draw, kind):
    """Words of one phrase of a kind, and what they say."""
    each = draw(st.sampled_from([each for each in vocabularies()[kind].phrases if not each.names]))
    pattern = re.sub(r"<(\w+)>", lambda found: re.escape(draw(st.sampled_from(SAMPLES[found[1]]))), each.pattern)
    text = draw(st.from_regex(re.compile(pattern, re.ASCII), fullmatch=True))
    return text, each.read(each.match(text.lower(), 0))


def outcome(make):
    """Run something: what it gives, or that it refuses."""
    try:
        return make()
    except ValueError as error:
        return type(error).__name__
    except ConfigError:
        return "refused"


@pytest.mark.parametrize(
    "kind", ["scoliosis", "fracture", "sagittal", "spondylolisthesis", "disc", "growth", "lesion", "process_fracture"]
)
@given(data=st.data())
def test_a_prompt_built_of_the_grammars_phrases_means_what_they_mean(kind, data):
    vocabulary = vocabularies()[kind]
    base = {
        "scoliosis": [("40 degrees", {"cobb_deg": 40.0}), ("apex T9", {"apex": "T9"})],
        "sagittal": [("60 degrees", {"angle_deg": 60.0})],
        "spondylolisthesis": [("L5", {"level": "L5"})],
        "disc": [("L4/L5", {"discs": ("L4/L5",)})],
        "process_fracture": [("L2", {"level": "L2"})],
        "lesion": [("12 mm", {"diameter_mm": 12.0}), ("L1", {"structure": "L1"})],
        "growth": [("girl", {"sex": "female"}), ("from 10 to 14", {"from_age": 10.0, "to_age": 14.0})],
        "fracture": [("moderate", {"genant_grade": 2}), ("L1", {"level": ("L1",)})],
    }[kind]
    chosen, taken = [], set()
    for text, says in data.draw(st.lists(sayings(kind), min_size=1, max_size=4)):
        if not taken & says.keys():
            taken |= says.keys()
            chosen.append((text, says))
    chosen += [(text, says) for text, says in base if not taken & says.keys()]
    said = Said()
    for text, says in chosen:
        said.take(Said(dict(says), dict.fromkeys(says, text)), vocabulary.many, kind)
    named = {
        "sagittal": "kyphosis",
        "disc": "disc degeneration",
        "growth": "skeletal growth",
        "process_fracture": "spinous process fracture",
    }.get(kind, kind)
    if kind == "sagittal":
        said.slots["sign"] = 1.0
    prompt = f"{named}: {', '.join(text for text, _ in chosen)}"
    built = outcome(lambda: [tell_pathology(each) for each, _ in vocabulary.make([said], [])])
    read = outcome(lambda: [tell_pathology(each) for each in read_prompt(prompt).pathologies])
    assert read == built or (isinstance(built, str) and isinstance(read, str)), prompt


@given(
    st.integers(1, 90), st.sampled_from(["right", "left", None]), st.sampled_from(["T7", "T9", "L2", "T8/T9"]),
    st.dictionaries(st.sampled_from(LEVELS), st.sampled_from([1, 2, 3]), max_size=3), st.data(),
)  # fmt: skip
def test_a_prompt_is_read_back_to_what_it_was_built_from(cobb, side, apex, grades, data):
    size = data.draw(st.sampled_from(["{} degree", "{}°", "{}-degree", "Cobb {}"])).format(cobb)
    turned = data.draw(st.sampled_from(["{}", "{}-sided", "{} convex"])).format(side) if side else ""
    place = data.draw(st.sampled_from([", apex {}", " at {}", " with its apex at {}", " ({})"])).format(apex)
    words = {1: "mild", 2: "moderate", 3: "Genant grade 3"}
    fractures = [f"a {words[grade]} fracture of {level}" for level, grade in grades.items()]
    text = data.draw(st.sampled_from([" and ", ", ", " with ", "; "])).join(
        [f"{size} {turned} scoliosis{place}", *fractures]
    )
    expected = [curve(cobb, apex, side), *(broken(level, grade) for level, grade in grades.items())]
    assert list(read_prompt(text).pathologies) == expected


@given(
    st.sampled_from(sorted(UNDERSTOOD)), st.text("abcdefghijklmnopqrstuvwxyz", min_size=5, max_size=12), st.data()
)  # fmt: skip
def test_a_strange_word_anywhere_is_refused_by_its_name(text, word, data):
    assume(word not in KNOWN)
    words = text.split()
    words.insert(data.draw(st.integers(0, len(words))), word)
    with pytest.raises(ConfigError, match=f"got .*{word}"):
        read_prompt(" ".join(words))


@given(st.text(max_size=60))
def test_any_text_at_all_is_read_or_refused(text):
    outcome(lambda: read_prompt(text))


# --- what becomes of it -----------------------------------------------------------------------------------------------


def test_what_is_assumed_is_told():
    assert understand("thoracic scoliosis of 40 degrees and an old burst fracture of L1, severe; seed 7").lines == (
        "scoliosis: cobb_deg 40, apex T8/T9, assumed: apex T8/T9, usual of a thoracic curve",
        "fracture: level L1, type wedge, ao A3, genant_grade 3, plates superior, retropulsion_mm 3, age_months 6, "
        "assumed: burst taken as AO A3, assumed: old taken as 6 months",
        "seed: 7",
    )


def test_a_prompt_reads_as_a_configuration_does():
    text = "35 degree right thoracic scoliosis, apex T9, with a moderate wedge fracture of L1, seed 7"
    configuration = spinesim.read_prompt(text)
    assert (configuration.seed, configuration.about) == (7, text)
    assert configuration.pathology.kind == "combination"


@pytest.mark.parametrize("quiet", [False, True])
def test_the_record_holds_the_prompt(quiet, small_case, small_files, tmp_path, monkeypatch):
    monkeypatch.setattr(job_room, "simulate", lambda *args, **more: small_case)
    ct, labels = map(str, small_files)
    text = "30 degree scoliosis, apex T10"
    monkeypatch.chdir(tmp_path)
    done = CliRunner().invoke(
        main, ["simulate", ct, "--labels", labels, "--prompt", text, *(["--quiet"] if quiet else [])]
    )
    assert done.exit_code == 0, done.output
    assert ("understood: scoliosis: cobb_deg 30, apex T10" in done.stderr.splitlines()) is not quiet
    (record,) = tmp_path.glob("simulated_scoliosis-T10/*_record.json")
    assert json.loads(record.read_text(encoding="utf-8"))["prompt"] == text


def test_the_folder_is_named_once_after_each_place():
    assert understand("three lesions in L3 of 8 mm and a lesion in T9 of 9 mm").name == "lesion-L3_lesion-T9"
