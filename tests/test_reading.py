import gzip

import nibabel as nib
import numpy as np
import pytest
import SimpleITK as sitk  # noqa: N813
from numpy.testing import assert_allclose
from scipy.spatial.transform import Rotation

from spinesim.anatomy.grid import Grid
from spinesim.anatomy.levels import Level
from spinesim.anatomy.reading import read_labels, read_mapping, read_scan, read_volume
from spinesim.anatomy.scan import LabelMap, Storage, Volume
from spinesim.anatomy.writing import write_labels, write_volume
from spinesim.errors import GeometryError, LabelError, ScanError, ScanWarning

SHAPE = (6, 5, 40)


def grid(tilt=(0.0, 0.0, 0.0)):
    affine = np.diag([-0.8, -0.7, 2.5, 1.0])
    affine[:3, :3] = Rotation.from_rotvec(tilt).as_matrix() @ affine[:3, :3]
    affine[:3, 3] = 12.5, -30.25, 400.0
    return Grid(SHAPE, affine)


def write_mask(mask, grid, path):
    write_labels(LabelMap(mask.astype(np.uint8), grid, {}), path)


def ct(tilt=(0.0, 0.0, 0.0)):
    return Volume(np.random.default_rng(0).integers(-1000, 1500, SHAPE).astype(np.int16), grid(tilt))


def labels():
    voxels = np.zeros(SHAPE, np.uint8)
    voxels[1:5, 1:4, 25:35], voxels[1:5, 1:4, 10:20] = 20, 21
    return LabelMap(voxels, grid(), {20: Level.L1, 21: Level.L2})


def save(path, voxels, affine=None, **header):
    """Save any array as NIfTI, with header fields as they should never be."""
    image = nib.Nifti1Image(voxels, grid().world_from_voxel if affine is None else affine, dtype=voxels.dtype)
    for name, value in {"vox_offset": 352, **header}.items():
        image.header[name] = value
    data = image.header.binaryblock.ljust(352, b"\0") + voxels.tobytes(order="F")
    path.write_bytes(gzip.compress(data) if path.suffix == ".gz" else data)
    return path


def itk_image(volume):
    """The same volume as ITK has it: (z, y, x), LPS."""
    image = sitk.GetImageFromArray(volume.voxels.transpose(2, 1, 0))
    lps = np.diag([-1.0, -1.0, 1.0])
    image.SetSpacing(volume.grid.spacing_mm.tolist())
    image.SetDirection((lps @ volume.grid.direction).ravel().tolist())
    image.SetOrigin((lps @ volume.grid.world_from_voxel[:3, 3]).tolist())
    return image


def save_dicom(folder, volume, series="1.2.3", modality="CT", kind="ORIGINAL\\PRIMARY\\AXIAL", skip=(), lean=0.0):
    """Write a DICOM series, slice by slice; ITK takes the rescale intercept off the stored numbers."""
    folder.mkdir(exist_ok=True)
    image = itk_image(volume)
    direction = np.reshape(image.GetDirection(), (3, 3))
    writer = sitk.ImageFileWriter()
    writer.KeepOriginalImageUIDOn()
    for k in range(volume.grid.shape[2]):
        if k in skip:
            continue
        piece = image[:, :, k]
        place = np.array(image.TransformIndexToPhysicalPoint((0, 0, k))) + k * lean * direction[:, 1]
        tags = {
            "0008|0016": "1.2.840.10008.5.1.4.1.1.2",
            "0008|0018": f"{series}.{k + 1}",
            "0008|0060": modality,
            "0008|0008": kind,
            "0008|103e": f"series {series}",
            "0020|000d": "1.2",
            "0020|000e": series,
            "0020|0013": str(k),
            "0020|0032": "\\".join(f"{x:.6f}" for x in place),
            "0020|0037": "\\".join(f"{x:.8f}" for x in direction[:, :2].T.ravel()),
            "0028|1052": "-1024",
            "0028|1053": "1",
        }
        for tag, value in tags.items():
            piece.SetMetaData(tag, value)
        writer.SetFileName(str(folder / f"{series}-{k:03}.dcm"))
        writer.Execute(piece)
    return folder


@pytest.mark.parametrize("name", ["a.nii", "a.nii.gz", "a.nrrd", "a.nhdr", "a.mha", "a.mhd", "series"])
@pytest.mark.parametrize("tilt", [(0.0, 0.0, 0.0), (0.2, -0.1, 0.3)])
def test_every_format_gives_the_same_volume(name, tilt, tmp_path):
    want = ct(tilt)
    if name == "series":
        save_dicom(tmp_path / name, want)
    elif "nii" in name:
        write_volume(want, tmp_path / name)
    else:
        sitk.WriteImage(itk_image(want), tmp_path / name)
    got = read_volume(tmp_path / name)
    assert_allclose(got.grid.world_from_voxel, want.grid.world_from_voxel, atol=1e-4)
    assert np.array_equal(got.hu(), want.hu())
    assert got.voxels.dtype == np.int16


def test_big_endian_and_a_trailing_axis_change_nothing(tmp_path):
    voxels = ct().voxels
    image = nib.Nifti1Image(voxels[..., None], grid().world_from_voxel, nib.Nifti1Header(endianness=">"))
    image.header.set_data_dtype(">i2")
    nib.save(image, tmp_path / "a.nii.gz")
    got = read_volume(tmp_path / "a.nii.gz")
    assert got.voxels.dtype == np.dtype("int16") and got.voxels.dtype.isnative
    assert np.array_equal(got.voxels, voxels)


def test_an_open_slope_and_intercept_are_1_and_0(tmp_path):
    for slope, intercept in ((np.nan, np.nan), (0, 7), (1, np.nan)):
        got = read_volume(save(tmp_path / "a.nii", ct().voxels, scl_slope=slope, scl_inter=intercept))
        assert (got.slope, got.intercept) == (1, 0)


def short(path, keep):
    path.write_bytes(path.read_bytes()[:keep])
    return path


def flipped(path, at):
    data = bytearray(path.read_bytes())
    data[at] ^= 0xFF
    path.write_bytes(data)
    return path


def save_mha(path):
    sitk.WriteImage(itk_image(ct()), path)
    return path


def text(path, content="hello"):
    path.write_text(content)
    return path


VOXELS = ct().voxels
HOLES = np.where(VOXELS > 1400, np.nan, VOXELS).astype(np.float32)
HUGE = "ObjectType = Image\nNDims = 3\nDimSize = 30000 30000 30000\nElementType = MET_SHORT\nElementDataFile = LOCAL\n"

BAD_SCANS = {
    "missing": (lambda d: d / "no.nii.gz", ScanError, "check the path"),
    "extension": (lambda d: text(d / "a.png"), ScanError, r"\.nii\.gz, \.nii, \.nrrd.*DICOM"),
    "empty folder": (lambda d: d, ScanError, "DICOM series"),
    "no NIfTI": (lambda d: text(d / "a.nii.gz"), ScanError, "convert it"),
    "empty file": (lambda d: text(d / "a.nii", ""), ScanError, "convert it"),
    "no NRRD": (lambda d: text(d / "a.nrrd"), ScanError, "convert the file"),
    "truncated gzip": (lambda d: short(save(d / "a.nii.gz", VOXELS), 1500), ScanError, "again"),
    "truncated header": (lambda d: short(save(d / "a.nii", VOXELS), 200), ScanError, "convert it"),
    "truncated voxels": (lambda d: short(save(d / "a.nii", VOXELS), 1500), ScanError, "again"),
    "damaged gzip": (lambda d: flipped(save(d / "a.nii.gz", VOXELS), -6), ScanError, "again"),
    "terabytes": (lambda d: save(d / "a.nii.gz", VOXELS, dim=[3, 30000, 30000, 30000, 1, 1, 1, 1]), ScanError, "again"),
    "truncated MHA": (lambda d: short(save_mha(d / "a.mha"), 1500), ScanError, "again"),
    "terabytes MHA": (lambda d: text(d / "a.mha", HUGE), ScanError, "again"),
    "voxels in the header": (lambda d: save(d / "a.nii", VOXELS, vox_offset=0), ScanError, "again"),
    "4-D": (lambda d: save(d / "a.nii", VOXELS, dim=[4, 6, 5, 20, 2, 1, 1, 1]), ScanError, "one volume a file"),
    "2-D": (lambda d: save(d / "a.nii", VOXELS[:, :, 0]), ScanError, "one volume a file"),
    "colour": (lambda d: save(d / "a.nii", VOXELS, datatype=128, bitpix=24), ScanError, "int16"),
    "complex": (lambda d: save(d / "a.nii", VOXELS.astype(np.complex64)), ScanError, "int16"),
    "NaN": (lambda d: save(d / "a.nii", HOLES), ScanError, rf"got {np.isnan(HOLES).sum()} voxels"),
    "constant": (lambda d: save(d / "a.nii", np.zeros(SHAPE, np.int16)), ScanError, "every voxel"),
    "singular": (lambda d: save(d / "a.nii", VOXELS, srow_z=0), GeometryError, "mend the header"),
    "sheared": (lambda d: save(d / "a.nii", VOXELS, srow_x=[1, 1, 0, 0]), GeometryError, "resample"),
    "metres": (lambda d: save(d / "a.nii", VOXELS, xyzt_units=1), GeometryError, "units"),
    "missing slice": (lambda d: save_dicom(d / "s", ct(), skip=[7]), ScanError, "missing"),
    "tilted gantry": (lambda d: save_dicom(d / "s", ct(), lean=0.5), GeometryError, "gantry"),
}


@pytest.mark.filterwarnings("ignore::spinesim.errors.ScanWarning")
@pytest.mark.parametrize("case", BAD_SCANS)
def test_a_bad_scan_is_refused_with_its_name_and_a_remedy(case, tmp_path):
    build, error, remedy = BAD_SCANS[case]
    path = build(tmp_path)
    with pytest.raises(error, match=remedy) as refusal:
        read_volume(path)
    message = str(refusal.value)
    assert message.startswith(f"{path}: expected") and ", got " in message and ";" in message and "\n" not in message


def test_numbers_that_are_no_hounsfield_units_are_warned_of(tmp_path):
    with pytest.warns(ScanWarning, match=r"a\.nii: .*intercept"):
        read_volume(save(tmp_path / "a.nii", (VOXELS + 1024).astype(np.uint16)))


def test_two_geometries_in_one_header_are_warned_of(tmp_path):
    with pytest.warns(ScanWarning, match="sform is used"):
        read_volume(save(tmp_path / "a.nii", VOXELS, qform_code=1, qoffset_x=99))


def test_the_one_ct_among_several_series_is_found_and_two_are_refused(tmp_path):
    folder = save_dicom(tmp_path / "s", ct())
    save_dicom(folder, ct(), series="1.2.4", kind="ORIGINAL\\PRIMARY\\LOCALIZER")
    assert np.array_equal(read_volume(folder).hu(), ct().hu())
    save_dicom(folder, ct(), series="1.2.5")
    with pytest.raises(ScanError, match=r"got 3: series 1\.2\.\d \(40 files\)"):
        read_volume(folder)


L12 = labels().voxels
BAD_LABELS = {
    "missing": (lambda d: d / "no.nii.gz", {}, "check the path"),
    "fractions": (lambda d: save(d / "a.nii", L12 * np.float32(0.5)), {}, "without interpolation"),
    "scaled fractions": (lambda d: save(d / "a.nii", L12, scl_slope=0.7, scl_inter=0), {}, "whole"),
    "negative": (lambda d: save(d / "a.nii", -L12.astype(np.int16)), {}, "label map"),
    "NaN": (lambda d: save(d / "a.nii", np.where(L12 == 20, np.nan, L12)), {}, "NaN"),
    "a CT": (lambda d: save(d / "a.nii", VOXELS), {}, "label map"),
    "huge": (lambda d: save(d / "a.nii", L12.astype(np.int32) * 99999), {}, "65535"),
    "empty": (lambda d: save(d / "a.nii", L12 * 0), {}, "check the file"),
    "organs": (lambda d: save(d / "a.nii", L12 + (L12 > 0) * np.uint8(200)), {}, "--scheme"),
    "other scheme": (lambda d: save(d / "a.nii", L12), {"scheme": "totalsegmentator"}, "got 20, 21; pass --scheme"),
    "both": (lambda d: save(d / "a.nii", L12), {"scheme": "verse", "mapping": {20: "L1"}}, "drop"),
    "folder": (lambda d: d, {}, "DICOM"),
}


@pytest.mark.parametrize("case", BAD_LABELS)
def test_a_bad_label_map_is_refused_with_its_name_and_a_remedy(case, tmp_path):
    build, options, remedy = BAD_LABELS[case]
    path = build(tmp_path)
    with pytest.raises(LabelError, match=remedy) as refusal:
        read_labels(path, **options)
    message = str(refusal.value)
    assert message.startswith(f"{path}: expected") and ", got " in message and ";" in message and "\n" not in message


def test_labels_come_in_the_smallest_type_and_others_are_carried(tmp_path):
    voxels = L12.astype(np.float64)
    voxels[0, 0, 0] = 300
    got = read_labels(save(tmp_path / "a.nii.gz", voxels), scheme="verse")
    assert got.voxels.dtype == np.uint16 and got.storage.dtype == "float64"
    assert got.present == (20, 21, 300) and got.numbers == {Level.L1: 20, Level.L2: 21}


def test_one_level_alone_is_read_as_verse_with_a_warning(tmp_path):
    with pytest.warns(ScanWarning, match="--scheme"):
        assert read_labels(save(tmp_path / "a.nii", (L12 == 20) * np.uint8(20))).numbers == {Level.L1: 20}


def test_a_mapping_file_gives_the_numbers_their_levels(tmp_path):
    save(tmp_path / "a.nii", L12)
    got = read_labels(tmp_path / "a.nii", mapping=text(tmp_path / "m.yaml", "20: T9\nT10: 21\n"))
    assert got.numbers == {Level.T9: 20, Level.T10: 21} and got.scheme == "mapping"
    for content in ("20: L1\n20: L2\n", "20: L9\n", "- 20\n", "20: [L1]\n", "20: 'L1\n", ""):
        with pytest.raises(LabelError, match=r"m\.yaml: .*expected"):
            read_mapping(text(tmp_path / "m.yaml", content))
    with pytest.raises(LabelError, match=r"no\.yaml"):
        read_mapping(tmp_path / "no.yaml")


def test_totalsegmentators_folder_is_one_map(tmp_path):
    masks = {"vertebrae_L1": L12 == 20, "vertebrae_L2": L12 == 21, "heart": L12 == 20, "rib_left_1": L12 == 7}
    for name, mask in masks.items():
        write_mask(mask, grid(), tmp_path / f"{name}.nii.gz")
    got = read_labels(tmp_path)
    assert (got.scheme, got.numbers) == ("totalsegmentator", {Level.L1: 31, Level.L2: 30})
    assert np.array_equal(got.voxels == 31, L12 == 20)
    write_mask(L12 == 1, grid(), tmp_path / "banana.nii.gz")
    with pytest.warns(ScanWarning, match="banana"):
        read_labels(tmp_path)
    (tmp_path / "banana.nii.gz").unlink()
    write_mask(L12 == 20, grid(), tmp_path / "vertebrae_T12.nii.gz")
    with pytest.raises(LabelError, match=r"overlap, got 120 voxels"):
        read_labels(tmp_path)


def test_a_scan_without_labels_is_refused_and_without_ct_is_not(tmp_path):
    write_labels(labels(), tmp_path / "seg.nii.gz")
    assert read_scan(None, tmp_path / "seg.nii.gz").image is None
    with pytest.raises(LabelError, match="segment the CT"):
        read_scan(tmp_path / "ct.nii.gz", None)


def test_labels_on_another_grid_are_refused_or_carried_over(tmp_path):
    write_volume(ct(), tmp_path / "ct.nii.gz")
    fine = L12.repeat(2, axis=0).repeat(2, axis=2)
    affine = grid().world_from_voxel @ np.diag([0.5, 1, 0.5, 1])
    affine[:3, 3] = grid().to_world(np.array([[-0.25, 0, -0.25]]))[0]
    write_labels(LabelMap(fine, Grid(fine.shape, affine), {}), tmp_path / "seg.nii.gz")
    with pytest.raises(GeometryError, match=r"seg\.nii\.gz.*ct\.nii\.gz.*6×5×40.*12×5×80.*--resample-labels"):
        read_scan(tmp_path / "ct.nii.gz", tmp_path / "seg.nii.gz")
    got = read_scan(tmp_path / "ct.nii.gz", tmp_path / "seg.nii.gz", resample_labels=True)
    assert np.array_equal(got.labels.voxels, L12) and got.labels.numbers == labels().numbers
    affine[2, 3] += 1e4
    write_labels(LabelMap(fine, Grid(fine.shape, affine), {}), tmp_path / "seg.nii.gz")
    with pytest.raises(LabelError, match="belong together"):
        read_scan(tmp_path / "ct.nii.gz", tmp_path / "seg.nii.gz", resample_labels=True)


def test_a_file_in_metres_is_placed_in_millimetres_and_written_back_in_metres(tmp_path):
    volume = Volume(VOXELS, grid(), storage=Storage("int16", spatial_units=1))
    write_volume(volume, tmp_path / "a.nii.gz")
    assert_allclose(nib.load(tmp_path / "a.nii.gz").header.get_zooms(), grid().spacing_mm / 1000, rtol=1e-6)
    assert_allclose(read_volume(tmp_path / "a.nii.gz").grid.world_from_voxel, grid().world_from_voxel, atol=1e-4)
