"""Subcommands about cases: phantom, convert, prepare, audit, split."""

from __future__ import annotations

from typing import Any

import click

from brats3d.cli.options import (
    EITHER_SPELLING,
    LABELS_HELP,
    check_json,
    dataset_options,
    silence_libraries,
    without_none,
)
from brats3d.errors import UsageError


@click.command()
@click.argument("out")
@click.option("--cases", type=int, required=True, help="Number of cases.")
@click.option("--seed", type=int, help="Random seed of the set.")
@click.option("--size", metavar="full|small", help="full: 240x240x155 voxels; small: for tests.")
@click.option(
    "--layout",
    metavar="NAME",
    help="Layout of a release: brats2018|brats2020|brats2021|brats2023|brats2024|msd|h5; or raw, with the skull.",
)
@click.option(
    "--setting", metavar="varied|plain|new-scanner|wide", help="plain is easier; new-scanner is for fine-tuning."
)
@click.option("--device", metavar="NAME", help="cpu or cuda.")
def phantom(out: str, cases: int, **options: Any) -> None:
    """Write synthetic BraTS cases to OUT.

    They are made from an average of healthy brains.
    """
    from brats3d.phantoms import write_phantoms

    folders = write_phantoms(out, cases, **without_none(options))
    click.echo(f"{len(folders)} cases in {out}")


@click.command(context_settings=EITHER_SPELLING)
@click.argument("src")
@click.argument("out")
@click.option("--workers", type=click.IntRange(min=1), help="Number of processes; default: one per core.")
@click.option("--to", type=click.Choice(["nnunet"]), help="Write nnU-Net's raw form instead, from BraTS cases in SRC.")
@click.option(
    "--datalist", metavar="FILE", help="With --to: datalist.json with the folds; default: that in SRC, if any."
)
@click.option("--label-convention", metavar="NAME", help=f"With --to: {LABELS_HELP}")
@click.option("--modalities", metavar="NAMES", help="With --to: sequences to write, such as t1,flair.")
def convert(src: str, out: str, workers: int | None, to: str | None, **options: Any) -> int:
    """Convert SRC to BraTS 2020's NIfTI layout in OUT.

    SRC holds Kaggle's HDF5 slices or the Decathlon's Task01_BrainTumour. The original integer intensities of the HDF5
    form are recovered; conversion.json lists the slices where that is ambiguous. Run the same command again to resume.

    With --to nnunet, SRC holds BraTS cases, and OUT is a new folder such as nnUNet_raw/Dataset137_BraTS.
    """
    from brats3d.convert import convert_dataset, convert_to_nnunet

    chosen = dataset_options(options)
    if to == "nnunet":
        if workers is not None:
            raise UsageError("workers", "not used with --to nnunet")
        silence_libraries()
        click.echo("\n".join(convert_to_nnunet(src, out, **chosen).summary()))
        return 0
    if chosen:
        raise UsageError(next(iter(chosen)), "used only with --to nnunet")
    done = convert_dataset(src, out, workers)
    click.echo("\n".join(done.summary()))
    return 1 if done.failed else 0


@click.command()
@click.argument("src")
@click.argument("out")
def prepare(src: str, out: str) -> int:
    """Prepare the raw scans in SRC for segmentation: OUT/<case_id>, in BraTS's form.

    SRC holds DICOM series or image files, with skull, each on its own grid. The sequences are registered to each other
    and to an atlas, skull-stripped and resampled to 1 mm. A case that has some of that already gets only what it lacks.
    Run the same command again to resume.
    """
    from brats3d.scans import prepare_scans

    silence_libraries()
    done = prepare_scans(src, out)
    click.echo("\n".join(done.summary()))
    return 1 if done.failed else 0


@click.command(context_settings=EITHER_SPELLING)
@click.argument("dataset_dir", metavar="DIR")
@click.option("--json", "json_file", metavar="FILE", help="Also write all findings to FILE.")
@click.option("--repair", metavar="OUT", help="Write a clean copy to OUT: links, and repaired files.")
@click.option("--label-convention", metavar="NAME", help=LABELS_HELP)
@click.option("--modalities", metavar="NAMES", help="Sequences that every case has, such as t1,flair.")
@click.option("--all", "everything", is_flag=True, help="List every finding.")
def audit(dataset_dir: str, json_file: str | None, repair: str | None, everything: bool, **options: Any) -> int:
    """Check the data in DIR and report what is wrong with it.

    Every file is read once; nothing in DIR is changed. Exit code 1: training would fail or learn something wrong.
    """
    from brats3d.audit import audit_dataset, check_copy_folder, format_audit, write_audit_json, write_repaired_copy

    chosen = dataset_options(options)
    if json_file is not None:
        json_file = str(check_json(json_file, "json"))
    if repair is not None:
        check_copy_folder([dataset_dir], repair)
    silence_libraries()
    done = audit_dataset(dataset_dir, **chosen)
    click.echo("\n".join(format_audit(done, everything)))
    if json_file is not None:
        write_audit_json(done, json_file)
    if repair is None:
        return 0 if done.ok else 1
    copy = write_repaired_copy(done, repair)
    click.echo("\n".join(copy.summary()))
    return 0 if copy.complete else 1


@click.command(context_settings=EITHER_SPELLING)
@click.argument("dataset_dir", metavar="DIR")
@click.option("--output", "-o", metavar="FILE", required=True, help="File to write, such as DIR/datalist.json.")
@click.option("--folds", type=int, help="Number of folds, at most one per patient.")
@click.option("--seed", type=int, help="Random seed of the split.")
@click.option("--label-convention", metavar="NAME", help=LABELS_HELP)
@click.option("--modalities", metavar="NAMES", help="Sequences that every case has, such as t1,flair.")
@click.option("--overwrite", is_flag=True, default=None, help="Replace another split in FILE.")
def split(dataset_dir: str, output: str, **options: Any) -> None:
    """Split the cases in DIR into balanced folds.

    Writes a datalist.json. Every segmentation is read once. Folds are stratified by grade, enhancing tumour and tumour
    volume; all cases of a patient are in one fold.
    """
    from brats3d.cases import describe_split, split_dataset

    done = split_dataset(dataset_dir, output, **dataset_options(options))
    click.echo("\n".join(describe_split(done, dataset_dir, output)))
