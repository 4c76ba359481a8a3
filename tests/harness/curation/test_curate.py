"""The command `gramlab curate`: from rooms to a manifest, again after a kill, by two processes, and what it refuses."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from PIL import Image
from pypdf import PdfReader

from common.ranks import Ranks
from evals.datasets.layouts.manifest import verified
from evals.datasets.layouts.manifest_rows import KEY
from evals.datasets.settings import Set
from harness import curate, run
from harness.curation import hierarchy
from harness.curation.settings import load
from harness.data.pool import open_pool
from harness.data_settings import Data

ROOT = Path(__file__).resolve().parents[3]


@pytest.fixture
def curated(whole, tmp_path):
    """The manifest of sixty rooms, in a copy of all that the command left."""
    shutil.copytree(whole, tmp_path / "runs" / "rooms")
    return tmp_path / "runs" / "rooms" / "manifest.parquet"


def test_a_manifest_tells_of_every_image_where_it_lies_and_what_became_of_it(curated):
    rows = pq.read_table(curated).to_pandas()
    assert rows["source"].tolist() == ["rooms"] * 60
    assert rows["place"].tolist() == list(range(60))
    assert rows["kept"].equals(rows["sampled"] | rows["retrieved"])
    assert 5 <= rows["sampled"].sum() <= 25
    assert 4 <= rows["retrieved"].sum() <= 12
    dropped = rows[rows["why"] == "near-duplicate"]
    assert not dropped["kept"].any()
    assert set(dropped["near"]) <= {f"rooms/{key}" for key in rows["image"]}
    assert rows.loc[rows["retrieved"], "near"].str.startswith("asked/").all()
    assert rows.groupby("level_1")["level_2"].nunique().max() == 1  # a cluster lies in one above it
    assert (rows["why"] == "not sampled").sum() == 60 - len(dropped) - rows["kept"].sum()


def test_the_pdf_beside_it_shows_numbers_sizes_clusters_and_seeds(curated):
    text = "\n".join(page.extract_text() for page in PdfReader(curated.with_name("curation.pdf")).pages)
    rows = pq.read_table(curated).to_pandas()
    for said in (
        "What became of the images",
        "Sizes of clusters",
        "Clusters of the top level",
        "What seeds brought in",
    ):
        assert said in text
    top = rows.groupby("level_2")["kept"].agg(["size", "sum"])
    assert all(f"cluster {n}: {row['size']} images, {row['sum']} kept" in text for n, row in top.iterrows())


def test_a_manifest_is_a_training_source_whose_clusters_are_components(curated):
    rows = pq.read_table(curated).to_pandas()
    pool = open_pool(Data(sources={"mine": Set(kind="manifest", root=str(curated))}))
    kept = rows[rows["kept"]]
    assert [pool.key(i) for i in range(len(pool))] == [f"mine/rooms/{key}" for key in kept["image"]]
    assert {name: len(members) for name, members in pool.components.items()} == {
        f"mine/{number}": count for number, count in kept.groupby("level_2").size().items()
    }
    rooms = open_pool(Data(sources={"rooms": Set(kind="scenes", size=32, count=60)}))
    assert np.array_equal(pool.image(3), rooms.image(int(kept["place"].iloc[3])))
    fine = open_pool(Data(sources={"mine": Set(kind="manifest", root=str(curated), classes=["level_1"])}))
    ways = kept["level_2"].astype(str) + "." + kept["level_1"].astype(str)
    assert set(fine.components) == {f"mine/{way}" for way in ways}
    parts = {
        "sampled": rows["sampled"],
        "retrieved": rows["retrieved"],
        "dropped": ~rows["kept"],
        "all": rows["place"] > -1,
    }
    for split, those in parts.items():
        part = open_pool(Data(sources={"mine": Set(kind="manifest", root=str(curated), split=split)}))
        assert [part.key(i) for i in range(len(part))] == [f"mine/rooms/{key}" for key in rows["image"][those]]


@pytest.fixture
def stages(tmp_path, checksums):
    """Every file of all stages, as content by name; hidden folders of writers left out."""
    return lambda: {name: sha for name, sha in checksums(tmp_path / "runs" / "rooms").items() if "/." not in name}


def test_a_command_that_was_cut_off_goes_on_and_ends_as_one_that_was_not(
    write_curation, stages, whole, checksums, monkeypatch, tmp_path
):
    path = str(write_curation())
    real, left = hierarchy.resampled, [1]

    def cut(*given, **named):
        left[0] -= 1
        if left[0] < 0:
            raise KeyboardInterrupt
        return real(*given, **named)

    monkeypatch.setattr(hierarchy, "resampled", cut)  # level 2 is under way when the second one is asked for
    assert curate.main([path]) == 130
    monkeypatch.undo()
    done = {stage.name for stage in (tmp_path / "runs" / "rooms" / "stages").iterdir() if stage.name[0] != "."}
    before = stages()
    assert 0 < len(done) < len(list((whole / "stages").iterdir()))
    assert curate.main([path]) == 0
    assert before.items() <= checksums(whole).items()
    assert stages() == checksums(whole)


def test_two_processes_give_the_same_bits_as_one(write_curation, stages, whole, checksums, in_processes):
    path = str(write_curation())
    in_processes(lambda ranks: curate.curate(load(path), ranks), 2)
    assert stages() == checksums(whole)


def test_no_process_begins_the_folder_of_embeddings_before_all_have_looked_for_it(write_curation, tmp_path):
    seen = []

    class Watching(Ranks):
        def wait(self):
            seen.append(any(tmp_path.glob("runs/rooms/stages/embeddings-*/card.json")))

    assert curate.curate(load(str(write_curation())), Watching()) == 0
    assert seen[:2] == [False, True]


@pytest.mark.slow
def test_torchrun_gives_the_same_bits_as_one_process(write_curation, stages, whole, checksums):
    path = str(write_curation())
    command = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2", "--standalone"]
    quiet = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONWARNINGS": "ignore"}
    done = subprocess.run([*command, "harness/curate.py", path], cwd=ROOT, env=quiet, capture_output=True, text=True,
                          check=False)  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "shared by 2 processes" in done.stdout
    assert stages() == checksums(whole)


def refusal(capsys, arguments):
    assert curate.main(arguments) == 2
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 1, lines
    return lines[0]


@pytest.mark.parametrize(
    ("word", "said"),
    [
        ("levels=[{clusters:61}]", "got levels[0].clusters=61 for 60 images: want no more clusters than images"),
        (
            "levels=[{clusters:12},{clusters:12}]",
            "levels=[12, 12]: want one level at least, and fewer clusters on each",
        ),
        ("levels=[]", "levels=[]: want one level at least"),
        ("clustering.target=61", "got clustering.target=61 for 60 images: want no more than the pool has"),
        ("retrieval.neighbours=61", "got retrieval.neighbours=61 for 60 images: want no more than the pool has"),
        ("backbone=timmm:vit", "got timmm:vit without"),
        ("backbone=random:vit_smal_patch16_224", "want one that timm knows"),
        ("size=36", "with patches of 8: want a multiple; try"),
        ("data.sources.rooms.kind=foldr", "data.sources.rooms.kind='foldr': want one of"),
        ("targets=3", "unknown setting 'targets'"),
        ("duplicates=1.5", "duplicates=1.5: want"),
    ],
)
def test_what_cannot_be_meant_is_told_in_one_line_and_nothing_is_written(write_curation, capsys, tmp_path, word, said):
    assert said in refusal(capsys, [str(write_curation()), word])
    assert not (tmp_path / "runs").exists()


def test_an_experiment_is_no_curation_and_a_curation_no_experiment(write_curation, capsys):
    path = str(ROOT / "experiments" / "gram_ablation.yaml")
    assert refusal(capsys, [path]).endswith(
        f"an experiment: want a curation, which has levels; or do gramlab run {path}"
    )
    path = str(write_curation())
    assert run.main([path]) == 2
    said = f"gramlab: got {path}, a curation: want an experiment, which has arms; or do gramlab curate {path}\n"
    assert capsys.readouterr().err == said


def test_seeds_without_a_format_of_the_pool_or_without_an_image_are_refused(write_curation, capsys, tmp_path):
    seeds = tmp_path / "seeds"
    seeds.mkdir()
    path = str(write_curation(retrieval={"seeds": {"mine": {"kind": "folder", "root": str(seeds)}}}))
    assert "retrieval.seeds.mine: got no image in" in refusal(capsys, [path])
    Image.new("RGB", (40, 40)).save(seeds / "a.png")
    assert "got seeds in PNG for a pool in rendered scenes: want a format in common" in refusal(capsys, [path])
    assert not (tmp_path / "runs").exists()


def test_the_plan_tells_what_is_asked_for_and_how_much_of_it_is_there(write_curation, capsys, curated, checksums):
    path, before = str(write_curation()), checksums(curated.parent)
    assert curate.main([path, "--plan"]) == 0
    found = capsys.readouterr().out
    folder = next((curated.parent / "stages").glob("embeddings-*"))
    for said in ("near-duplicates: dropped from a cosine of", "sampling: ", "retrieval: ", "its manifest is there"):
        assert said in found
    assert f"embeddings: of 60 of 60 images in {folder}; others are made on cpu" in found
    assert curate.main([path, "name=other", "--plan", "retrieval.seeds={}", "duplicates=null"]) == 0
    found = capsys.readouterr().out
    assert "near-duplicates: kept\n" in found
    assert "retrieval: none\n" in found
    assert "embeddings: of 0 of 60 images in" in found
    assert "want those of size 64" in refusal(capsys, [path, "name=other", "--plan", f"embeddings={folder}", "size=64"])
    assert checksums(curated.parent) == before
    assert not curated.parents[1].joinpath("other").exists()


def test_embeddings_of_another_backbone_or_pool_are_refused(write_curation, capsys, tmp_path, curated, checksums):
    folder = next((curated.parent / "stages").glob("embeddings-*"))
    before = checksums(curated.parent)
    other = "random:test_vit"
    given = [str(write_curation()), "name=other", f"embeddings={folder}"]
    assert f"want those of {other}; name the folder" in refusal(capsys, [*given, f"backbone={other}"])
    assert "want those of pool" in refusal(capsys, [*given, "data.sources.rooms.seed=1"])
    assert "want those of size 64" in refusal(capsys, [*given, "size=64"])
    (tmp_path / "strange").mkdir()
    (tmp_path / "strange" / "notes.txt").write_text("mine")
    assert "without card.json" in refusal(capsys, [*given[:2], f"embeddings={tmp_path / 'strange'}"])
    assert curate.main(given) == 0
    assert checksums(curated.parent) == before


def test_a_manifest_of_other_settings_is_never_replaced(write_curation, capsys, curated, checksums):
    before = checksums(curated.parent)
    said = refusal(capsys, [str(write_curation()), "clustering.target=30"])
    assert "got other settings than" in said
    assert "want another name; or move it away" in said
    assert "got another pool than" in refusal(capsys, [str(write_curation()), "data.sources.rooms.seed=1"])
    assert checksums(curated.parent) == before


def edited(path):
    table = pq.read_table(path)
    column = [not value for value in table.column("kept").to_pylist()]
    changed = table.set_column(table.schema.get_field_index("kept"), table.schema.field("kept"), [column])
    with pq.ParquetFile(path) as file:
        told = file.metadata.metadata
    with pq.ParquetWriter(path, changed.schema) as file:
        file.write_table(changed)
        file.add_key_value_metadata({KEY.decode(): told[KEY].decode()})


def test_a_manifest_that_was_edited_by_hand_is_refused_as_a_source_and_not_replaced(write_curation, capsys, curated):
    edited(curated)
    held = curated.read_bytes()
    assert "was changed since it was written" in refusal(capsys, [str(write_curation())])
    with pytest.raises(ValueError, match="was changed since it was written: want it as it was"):
        verified(curated)
    assert curated.read_bytes() == held
    pq.read_table(curated).to_pandas().to_parquet(curated)
    with pytest.raises(ValueError, match="want a manifest that gramlab curate wrote"):
        verified(curated)


def test_images_that_came_or_went_are_found_and_missed_by_their_names(write_curation, tmp_path):
    photos = tmp_path / "photos"
    photos.mkdir()
    draw = np.random.default_rng(0)
    for number in range(30):
        image = draw.integers(0, 255, (4, 4, 3), dtype=np.uint8).repeat(8, 0).repeat(8, 1)
        Image.fromarray(image).save(photos / f"{number:02d}.png")
    sources = {"photos": {"kind": "folder", "root": str(photos)}}
    path = write_curation(data={"sources": sources}, levels=[{"clusters": 5}], duplicates=None, retrieval={})
    assert curate.main([str(path), "clustering.target=30"]) == 0
    one = Data(sources={"mine": Set(kind="manifest", root=str(tmp_path / "runs" / "rooms" / "manifest.parquet"))})
    before = open_pool(one)
    assert len(before) == 30
    Image.new("RGB", (32, 32)).save(photos / "000.png")
    after = open_pool(one)
    assert [after.key(i) for i in range(30)] == [before.key(i) for i in range(30)]
    assert np.array_equal(after.image(29), before.image(29))
    (photos / "07.png").unlink()
    with pytest.raises(ValueError, match=r"got 1 of 30 images of .* that are gone \(photos/07.png\)"):
        open_pool(one)


def test_what_is_excluded_is_no_part_of_the_pool(write_curation, tmp_path):
    key = open_pool(Data(sources={"rooms": Set(kind="scenes", size=32, count=60)})).key(5).removeprefix("rooms/")
    sources = {"rooms": {"kind": "scenes", "size": 32, "count": 60, "exclude": [key]}}
    assert curate.main([str(write_curation(data={"sources": sources}))]) == 0
    manifest = tmp_path / "runs" / "rooms" / "manifest.parquet"
    assert key not in pq.read_table(manifest).column("image").to_pylist()
    assert len(pq.read_table(manifest)) == 59
    assert len(open_pool(Data(sources={"mine": Set(kind="manifest", root=str(manifest))})))
