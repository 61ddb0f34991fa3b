"""A release on disk: the id, what is refused, what mends itself."""

from __future__ import annotations

import io
import json
import tarfile
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from modelyard.errors import Damaged, UserError
from modelyard.ids import canonical, digest, digest_bytes
from modelyard.lifecycle import artifact
from modelyard.ports.records import Manifest, Snapshot

SNAPSHOT = Snapshot((("a.md", "1" * 64),), "p")


def make(root: Path, text: str = "hello") -> Path:
    releases, objects = root / "releases", root / "objects"
    bench = artifact.workbench(releases)
    (bench / "deep").mkdir()
    (bench / "deep" / "model.bin").write_text(text)
    artifact.write_snapshot(bench, SNAPSHOT)
    manifest = Manifest("echo", 1, artifact.members(bench), SNAPSHOT.root, {"k": "0.5"})
    return artifact.seal(bench, manifest, releases, objects)


def test_the_same_content_has_the_same_id_anywhere_and_files_are_shared(tmp_path: Path) -> None:
    one, two = make(tmp_path / "one"), make(tmp_path / "two")
    assert one.name == two.name and artifact.verify(one, one.name).id == one.name
    other = make(tmp_path / "one", "other")
    assert other.name != one.name
    assert (other / "snapshot.json").samefile(one / "snapshot.json")
    assert make(tmp_path / "one") == one


def test_a_missing_or_altered_member_is_refused_and_building_it_again_mends_it(tmp_path: Path) -> None:
    home = make(tmp_path)
    victim = home / "deep" / "model.bin"
    victim.chmod(0o644)
    victim.write_text("jello")
    with pytest.raises(Damaged, match=r"model.bin is not what its digest says"):
        artifact.verify(home)
    assert artifact.verify(make(tmp_path)).id == home.name
    victim.unlink()
    assert not artifact.complete(home)
    with pytest.raises(Damaged, match=r"model.bin is missing"):
        artifact.verify(home)
    assert artifact.verify(make(tmp_path)).id == home.name


def test_an_export_is_the_same_bytes_and_comes_back_under_the_same_id(tmp_path: Path) -> None:
    home = make(tmp_path / "here")
    artifact.export(home, tmp_path / "a.tar")
    artifact.export(home, tmp_path / "b.tar")
    assert (tmp_path / "a.tar").read_bytes() == (tmp_path / "b.tar").read_bytes()
    there = tmp_path / "there"
    assert artifact.unpack(tmp_path / "a.tar", there / "releases", there / "objects").id == home.name
    assert artifact.verify(there / "releases" / home.name)
    assert not list((there / "releases").glob(".building-*"))


@pytest.mark.parametrize("name", ["/etc/passwd", "../x", "a/../../x", "a//b", "."])
def test_a_member_that_points_out_of_the_release_is_refused(tmp_path: Path, name: str) -> None:
    victim = tmp_path / "victim"
    victim.write_text("mine")
    body = Manifest("echo", 1, {name: digest_bytes(b"mine"), "snapshot.json": "0" * 64}, "0" * 64, {}).to_json()
    with tarfile.open(tmp_path / "bad.tar", "w") as tar:
        info = tarfile.TarInfo("manifest.json")
        data = canonical(body)
        info.size = len(data)
        tar.addfile(info, io.BytesIO(data))
    with pytest.raises(Damaged, match="no place in a release"):
        artifact.unpack(tmp_path / "bad.tar", tmp_path / "releases", tmp_path / "objects")
    assert victim.stat().st_nlink == 1


@pytest.mark.parametrize(
    "body", ["{}", "[]", "{", '{"format": 99}', json.dumps(Manifest("e", 1, {}, "0", {"x": 0.5}).to_json())]
)
def test_what_is_no_manifest_is_one_line(tmp_path: Path, body: str) -> None:
    (tmp_path / "manifest.json").write_text(body)
    with pytest.raises((Damaged, UserError)) as error:
        artifact.verify(tmp_path)
    assert "\n" not in str(error.value)


values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=12,
)


@given(values)
def test_canonical_json_does_not_depend_on_order_and_comes_back(value: object) -> None:
    text = canonical(value)
    assert json.loads(text) == value and canonical(json.loads(text)) == text

    def turned(v: object) -> object:
        if isinstance(v, dict):
            return {k: turned(v[k]) for k in reversed(v)}
        return [turned(i) for i in v] if isinstance(v, list) else v

    assert digest(turned(value)) == digest(value)


@pytest.mark.parametrize("value", [0.5, {"a": [1.0]}, {1: 2}, object()])
def test_what_has_no_canonical_form_is_refused(value: object) -> None:
    with pytest.raises(TypeError):
        canonical(value)
