"""Name mappings: one patient under the names of several releases."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given, strategies as st

from brats3d.cases.case import Case, make_case
from brats3d.cases.name_mapping import join_overlapping, read_name_mappings
from brats3d.errors import DataError

HEADER = (
    "Grade,BraTS_2017_subject_ID,BraTS_2018_subject_ID,TCGA_TCIA_subject_ID,BraTS_2019_subject_ID,BraTS_2020_subject_ID"
)
ROWS = (
    "HGG,Brats17_CBICA_AAB_1,Brats18_CBICA_AAB_1,NA,BraTS19_CBICA_AAB_1,BraTS20_Training_001",
    "HGG,Brats17_TCIA_105_1,Brats18_TCIA08_105_1,TCGA-06-0138,BraTS19_TCIA08_105_1,BraTS20_Training_002",
    "LGG,NA,,TCGA-DU-7294,NA,BraTS20_Training_003",
)


def case(case_id: str, grade: str | None = None) -> Case:
    result = make_case(case_id, {}, None)
    return Case(result.case_id, result.patient_id, {}, None, result.layout, result.convention, grade)


def write(path: Path, *lines: str, encoding: str = "utf-8") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes("\n".join(lines).encode(encoding))
    return path.parent


@pytest.fixture
def mapping(tmp_path: Path):
    return read_name_mappings([write(tmp_path / "name_mapping.csv", HEADER, *ROWS)])


def test_a_patient_has_one_identifier_under_all_names(mapping) -> None:
    names = ("Brats17_TCIA_105_1", "Brats18_TCIA08_105_1", "BraTS19_TCIA08_105_1", "BraTS20_Training_002")
    assert {mapping.patient_of(case(name)) for name in names} == {"BraTS20_Training_002"}
    assert mapping.patient_of(case("TCGA-06-0138")) == "BraTS20_Training_002"


def test_a_case_without_a_row_keeps_its_patient_and_has_no_grade(mapping) -> None:
    other = case("BraTS-GLI-00005-100")
    assert (mapping.patient_of(other), mapping.grade_of(other)) == ("BraTS-GLI-00005", None)


def test_empty_cells_unite_no_patients(tmp_path: Path) -> None:
    rows = [f"HGG,{empty},BraTS20_Training_{i:03d}" for i, empty in enumerate(("NA", "N/A", "nan", "", " ", "-", "0"))]
    mapping = read_name_mappings(
        [write(tmp_path / "name_mapping.csv", "Grade,BraTS_2019_subject_ID,BraTS_2020_subject_ID", *rows, *rows)]
    )
    patients = {mapping.patient_of(case(f"BraTS20_Training_{i:03d}")) for i in range(7)}
    assert len(patients) == 7


def test_grades_come_from_the_folder_then_from_the_rows(mapping) -> None:
    assert mapping.grade_of(case("BraTS20_Training_003")) == "LGG"
    assert mapping.grade_of(case("BraTS20_Training_003", grade="HGG")) == "HGG"
    assert mapping.grade_of(case("Unknown_1", grade="LGG")) == "LGG"


def test_rows_that_disagree_on_the_grade_leave_it_unknown(tmp_path: Path) -> None:
    write(tmp_path / "name_mapping.csv", HEADER, ROWS[0], ROWS[0].replace("HGG", "LGG"), ROWS[2].replace("LGG", "?"))
    mapping = read_name_mappings(tmp_path)
    assert mapping.grade_of(case("BraTS20_Training_001")) is None
    assert mapping.grade_of(case("BraTS20_Training_003")) is None


def test_two_mappings_are_joined_by_a_common_name(tmp_path: Path) -> None:
    write(
        tmp_path / "a" / "name_mapping.csv",
        "Grade,BraTS_2017_subject_ID,BraTS_2018_subject_ID",
        "HGG,Brats17_X_1,B18_7",
    )
    write(
        tmp_path / "b" / "name_mapping.csv", "BraTS_2020_subject_ID,BraTS_2018_subject_ID", "BraTS20_Training_009,B18_7"
    )
    mapping = read_name_mappings([tmp_path / "a", tmp_path / "b"])
    assert mapping.patient_of(case("Brats17_X_1")) == "BraTS20_Training_009"
    assert mapping == read_name_mappings([tmp_path / "b", tmp_path / "a", tmp_path])


def test_a_release_without_a_column_is_matched_by_patient_identifier(mapping) -> None:
    # The mapping has no such time point; the patient identifier inside the name matches.
    assert mapping.patient_of(case("BraTS19_CBICA_AAB_2")) == "BraTS20_Training_001"


@pytest.mark.parametrize(
    "lines",
    [
        [HEADER, *ROWS],
        ["", HEADER, "", *ROWS, ""],
        [f" {HEADER} ".replace(",", " , "), *(row.replace(",", " , ") for row in ROWS)],
        [",".join(HEADER.split(",")[::-1]), *(",".join(row.split(",")[::-1]) for row in ROWS)],
        [HEADER.replace(",", ";"), *(row.replace(",", ";") for row in ROWS)],
        [HEADER.lower() + ",Remark", *(row + ',"a, b"' for row in ROWS)],
        [HEADER, *(row.replace("HGG", "hgg") + ",," for row in ROWS)],
    ],
    ids=["plain", "blank lines", "spaces", "other order", "semicolons", "small letters", "empty cells more"],
)
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig"])
def test_variants_of_the_file_are_read_alike(tmp_path: Path, lines: list[str], encoding: str) -> None:
    mapping = read_name_mappings([write(tmp_path / "Name_Mapping_2020.CSV", *lines, encoding=encoding)])
    assert mapping.patient_of(case("Brats18_TCIA08_105_1")) == "BraTS20_Training_002"
    assert mapping.grade_of(case("Brats18_TCIA08_105_1")) == "HGG"


def test_latin_1_and_windows_line_endings_are_read(tmp_path: Path) -> None:
    (tmp_path / "name_mapping.csv").write_bytes(f"Ort,{HEADER}\r\nK\xf6ln,{ROWS[1]}\r\n".encode("latin-1"))
    assert read_name_mappings(tmp_path).grade_of(case("Brats17_TCIA_105_1")) == "HGG"


def test_the_spreadsheet_of_2023_is_read_as_csv_and_else_reported(tmp_path: Path) -> None:
    (tmp_path / "BraTS2023_2017_GLI_Mapping.xlsx").write_bytes(b"PK")
    assert read_name_mappings(tmp_path).spreadsheets == (tmp_path / "BraTS2023_2017_GLI_Mapping.xlsx",)
    write(
        tmp_path / "BraTS2023_2017_GLI_Mapping.csv",
        "BraTS2023;BraTS2021;BraTS2020;Site No (represents the originating institution)",
        "BraTS-GLI-00005-000;BraTS2021_00005;BraTS20_Training_010;18",
        "BraTS-GLI-00006-000;BraTS2021_00006;;18",
    )
    mapping = read_name_mappings(tmp_path)
    assert mapping.patient_of(case("BraTS20_Training_010")) == "BraTS-GLI-00005"
    assert mapping.patient_of(case("BraTS-GLI-00006-001")) == "BraTS-GLI-00006"


@pytest.mark.parametrize(
    ("content", "problem", "expected"),
    [
        (b"", "empty", "BraTS's name mapping"),
        (b"PK\x03\x04\0\0\0", "not a text file", "BraTS's name mapping"),
        (f'{HEADER}\nHGG,"Brats17'.encode(), "cannot be read as CSV", "BraTS's name mapping"),
        (b"id,age\n1,2\n", "columns id, age", "at least one such as BraTS_2020_subject_ID"),
        (f"{HEADER}\n{ROWS[0]}\nHGG,Brats17_T".encode(), "line 3 has 2 cells", "6 as in the header"),
        (f"{HEADER}\n{ROWS[0]},x\n".encode(), "line 2 has 7 cells", "6 as in the header"),
    ],
)
def test_an_unreadable_mapping_is_refused(tmp_path: Path, content: bytes, problem: str, expected: str) -> None:
    (tmp_path / "name_mapping.csv").write_bytes(content)
    with pytest.raises(DataError) as error:
        read_name_mappings(tmp_path)
    assert (error.value.subject, error.value.expected) == (str(tmp_path / "name_mapping.csv"), expected)
    assert problem in error.value.problem


def test_without_a_mapping_cases_keep_their_own_patient(tmp_path: Path) -> None:
    write(tmp_path / "label_mapping.csv", "a,b")
    mapping = read_name_mappings(tmp_path)
    assert mapping.files == ()
    assert mapping.patient_of(case("Brats18_CBICA_AAB_1")) == "CBICA_AAB"


# --- the search for mapping files


def test_mappings_are_found_below_the_folder(tmp_path: Path) -> None:
    for folder, name in (("Training", "name_mapping.csv"), ("Validation", "name_mapping_validation_data.csv")):
        write(tmp_path / f"BraTS2020_{folder}Data" / f"MICCAI_BraTS2020_{folder}Data" / name, HEADER, ROWS[0])
    (tmp_path / "link").symlink_to(tmp_path)
    assert len(read_name_mappings([tmp_path, tmp_path]).files) == 2


def test_a_mapping_is_found_above_a_case_and_above_a_grade(tmp_path: Path, write_nifti) -> None:
    write(tmp_path / "name_mapping.csv", HEADER, ROWS[0])
    folder = tmp_path / "HGG" / "Brats18_CBICA_AAB_1"
    folder.mkdir(parents=True)
    (folder / "Brats18_CBICA_AAB_1_t1.nii.gz").touch()
    assert read_name_mappings(folder).files == read_name_mappings([tmp_path / "HGG"]).files != ()


def test_other_folders_above_are_not_searched(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(tmp_path / "name_mapping.csv", HEADER, ROWS[0])
    (tmp_path / "data").mkdir()
    assert read_name_mappings([tmp_path / "data"]).files == ()
    (tmp_path / "data" / "x_t1.nii").touch()
    monkeypatch.setenv("HOME", str(tmp_path / "data"))
    assert read_name_mappings([tmp_path / "data"]).files == ()


def test_a_user_without_a_home_folder_finds_mappings_above(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(tmp_path / "name_mapping.csv", HEADER, ROWS[0])
    (tmp_path / "HGG").mkdir()
    monkeypatch.delenv("HOME")
    monkeypatch.setattr("pwd.getpwuid", {}.__getitem__)  # as in docker run -u 12345
    assert len(read_name_mappings([tmp_path / "HGG"]).files) == 1


def test_reading_a_mapping_imports_nothing_heavy() -> None:
    code = (
        "import sys, brats3d.cases.name_mapping; "
        "print(sorted({'torch', 'monai', 'numpy', 'nibabel', 'pandas'} & set(sys.modules)))"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "[]\n"


# --- sets


@given(st.lists(st.sets(st.sampled_from("abcdefgh"), max_size=3), max_size=8))
def test_joined_sets_are_disjoint_and_contain_all_sets(sets) -> None:
    joined = join_overlapping(sets)
    assert sum(len(members) for members in joined) == len(set().union(*sets))
    assert all(sum(members <= whole for whole in joined) == 1 for members in sets if members)
    assert join_overlapping(joined) == joined


def test_sets_are_joined_through_others() -> None:
    assert sorted(map(sorted, join_overlapping(["ab", "cd", "ef", "bc"]))) == [["a", "b", "c", "d"], ["e", "f"]]
