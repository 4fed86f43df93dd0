"""Folder: a run folder on local disk or behind any pyarrow.fs URI (s3://, gs://, file://)."""

import os
import random
import re
import time
import uuid
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Self

from pyarrow import fs

from trainers.outside import MAX_BYTES, check_size
from trainers.spec import SpecError, shortened

CREDENTIALS = re.compile(
    r"://[^/?#]*@|[?&;](?:access_?key|secret|token|password|session)[^=&;]*=", re.IGNORECASE
)
UNFIT = re.compile(r"[\x00-\x1f\x7f\\]")
CLAIM = ".claim"
CLAIM_SECONDS = 60.0  # an older claim's writer is taken for dead


@dataclass(frozen=True)
class Folder:
    """Reads and writes whole small files by name; a name may hold slashes.

    Every `write` is atomic: a reader sees the old content or the new, never a part (a rename on a
    local disk, one PUT or one completed upload on an object store). Names that lead out of the folder,
    by `..` or by symbolic links, are refused: what is in a folder, and what it calls its files, may
    come from somebody else. All methods raise OSError for what the disk or the store refuses.
    """

    filesystem: fs.FileSystem
    path: str
    location: str  # what the user gave: an absolute path or a URI
    root: str = field(default="", compare=False)  # the path the user gave; links below must stay in it

    @classmethod
    def open(cls, location: str | Path) -> Self:
        """Raises SpecError when the location cannot be understood, or holds credentials: it is written
        to logs and shown. A store's credentials come from the environment alone."""
        text = str(location)
        if "://" not in text:
            absolute = os.path.abspath(os.path.expanduser(text))
            return cls(fs.LocalFileSystem(), absolute, absolute, absolute)
        if CREDENTIALS.search(text):
            raise SpecError(
                f"{text.partition('://')[0]}://...: found credentials in a URI, which logs and messages "
                "would show; allowed: environment variables (AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY, ...)"
            )
        try:
            filesystem, path = fs.FileSystem.from_uri(_one_put(text))
        except (ValueError, OSError) as error:
            raise SpecError(f"{text}: not a folder or URI that can be opened: {error}") from None
        path = path.rstrip("/")
        return cls(filesystem, path, text.rstrip("/"), path)

    def __truediv__(self, name: str) -> Self:
        path = self._at(name)
        base, mark, query = self._parts
        return type(self)(self.filesystem, path, f"{base}/{name}{mark}{query}", self.root or self.path)

    @property
    def parent(self) -> Self:
        """The folder above."""
        base, mark, query = self._parts
        path, above = (text.rpartition("/")[0] or "/" for text in (self.path, base))
        return type(self)(self.filesystem, path, f"{above}{mark}{query}", path)

    @property
    def name(self) -> str:
        return self.path.rstrip("/").rpartition("/")[2]

    @property
    def is_local(self) -> bool:
        return isinstance(self.filesystem, fs.LocalFileSystem)

    def exists(self, name: str) -> bool:
        return self.filesystem.get_file_info(self._at(name)).type != fs.FileType.NotFound

    def read(self, name: str, limit: int = MAX_BYTES) -> bytes | None:
        """The whole file, or None when there is none. Raises SpecError for more than `limit` bytes."""
        target = self._at(name)
        try:
            with self.filesystem.open_input_file(target) as stream:
                check_size(f"{self.location}/{name}", stream.size(), limit)
                return stream.read()
        except (FileNotFoundError, NotADirectoryError):
            return None

    def write(self, name: str, content: bytes) -> None:
        """Raises OSError when the disk is full or the folder is not writable."""
        target = self._at(name)
        if not self.is_local:
            with self.filesystem.open_output_stream(target) as stream:
                stream.write(content)
            return
        part = Path(f"{target}.{uuid.uuid4().hex[:8]}.part")
        part.parent.mkdir(parents=True, exist_ok=True)
        try:
            with part.open("wb") as stream:
                stream.write(content)
                stream.flush()
                os.fsync(stream.fileno())
            part.replace(target)
        except BaseException:
            part.unlink(missing_ok=True)
            raise

    def create(self, name: str, content: bytes) -> bool:
        """Writes a file that must not exist yet; False when it does. Of many who try, one succeeds."""
        if not self.is_local:
            return self._create_by_claim(name, content)
        target = Path(self._at(name))
        part = target.with_name(f"{target.name}.{uuid.uuid4().hex[:8]}.part")
        part.parent.mkdir(parents=True, exist_ok=True)
        try:
            part.write_bytes(content)
            os.link(part, target)
            return True
        except FileExistsError:
            return False
        finally:
            part.unlink(missing_ok=True)

    def append(self, name: str, content: bytes) -> None:
        """Adds to the end of a file. A kill can tear the last line; object stores, which cannot
        append, get the whole file anew; callers see to it that one writes at a time."""
        if not self.is_local:
            self.write(name, (self.read(name) or b"") + content)
            return
        target = Path(self._at(name))
        target.parent.mkdir(parents=True, exist_ok=True)
        with target.open("ab") as stream:
            stream.write(content)

    def names(self) -> list[str]:
        """Files and folders directly inside, sorted; empty when the folder does not exist."""
        selector = fs.FileSelector(self._at(""), allow_not_found=True)
        infos = self.filesystem.get_file_info(selector)
        return sorted(info.base_name for info in infos if not info.base_name.endswith((".part", CLAIM)))

    def size(self, name: str) -> int:
        """Bytes of all files in a folder inside."""
        selector = fs.FileSelector(f"{self.path}/{name}", allow_not_found=True, recursive=True)
        return sum(info.size or 0 for info in self.filesystem.get_file_info(selector))

    def rename(self, name: str, new_name: str) -> None:
        """Of a file, or on a local disk of a folder."""
        self.filesystem.move(self._at(name), self._at(new_name))

    def delete(self, name: str) -> None:
        """Deletes a file or a folder with all it holds; nothing happens when there is none."""
        target = self._at(name).rstrip("/")
        try:
            match self.filesystem.get_file_info(target).type:
                case fs.FileType.Directory:
                    self.filesystem.delete_dir(target)
                case fs.FileType.File:
                    self.filesystem.delete_file(target)
        except FileNotFoundError:
            pass  # somebody else was faster

    @property
    def _parts(self) -> tuple[str, str, str]:
        """`s3://bucket/runs`, `?`, `endpoint_override=...`"""
        return self.location.partition("?") if "://" in self.location else (self.location, "", "")

    def _at(self, name: str) -> str:
        """The path of a name. Raises SpecError for one that leads out of the folder."""
        parts = name.split("/") if name else []
        if UNFIT.search(name) or any(part in ("", ".", "..") or len(part) > 255 for part in parts):
            raise SpecError(
                f"{self.location}: found the name {shortened(name)}; allowed: names of files in that folder"
            )
        target = f"{self.path}/{name}" if name else self.path
        if self.is_local:
            self._check_links(target)
        return target

    def _check_links(self, target: str) -> None:
        """What lies below the folder that the user gave must not be a link out of it."""
        root = self.root or self.path
        place = root
        for part in target[len(root) :].split("/"):
            place = f"{place}/{part}" if part else place
            if place != root and os.path.islink(place):
                real, home = os.path.realpath(place), os.path.realpath(root)
                if os.path.commonpath((real, home)) != home:
                    raise SpecError(f"{place}: found a symbolic link that leads out of {root}; allowed: none")

    def _create_by_claim(self, name: str, content: bytes) -> bool:
        """Exclusive without a store's conditional writes, which pyarrow does not offer: raise a flag, look
        round, and write only when no other flag is up (Herlihy and Shavit 2008, section 1.2). It needs a
        store on which a write is seen by every later read and listing, as S3 and GCS promise.

        The window that is left: a writer that is frozen for CLAIM_SECONDS between its last look at the
        clock and its write. Then two hold one lease until the next heartbeat, and attempt numbers keep
        all but one of them from writing results.
        """
        patience = 0.5
        while not self.exists(name):
            claim, begun = f"{name}.{uuid.uuid4().hex}{CLAIM}", time.monotonic()
            self.write(claim, b"claimed\n")
            try:
                if not self._other_claims(name, claim):
                    if self.exists(name):  # its writer had lowered the flag before we looked
                        return False
                    if time.monotonic() - begun < CLAIM_SECONDS / 2:
                        self.write(name, content)
                        return True
            finally:
                self.delete(claim)
            time.sleep(random.uniform(0.05, patience))
            patience = min(2 * patience, 8.0)
        return False

    def _other_claims(self, name: str, own: str) -> list[str]:
        """Claims of writers that may be alive; those of dead ones are taken away. Ages are told by the
        store's clock alone."""
        above, _, base = f"{self.path}/{name}".rpartition("/")
        infos = self.filesystem.get_file_info(fs.FileSelector(above, allow_not_found=True))
        claims = [i for i in infos if i.base_name.startswith(f"{base}.") and i.base_name.endswith(CLAIM)]
        mine = next((info.mtime for info in claims if info.path.endswith(own)), None)
        alive = []
        for info in claims:
            if info.path.endswith(own):
                continue
            if mine and info.mtime and mine - info.mtime > timedelta(seconds=CLAIM_SECONDS):
                self.filesystem.delete_file(info.path)
            else:
                alive.append(info.path)
        return alive


def _one_put(uri: str) -> str:
    """With small files written by one PUT, without an upload in parts."""
    if not uri.startswith("s3://") or "allow_delayed_open" in uri:
        return uri
    return f"{uri}{'&' if '?' in uri else '?'}allow_delayed_open=true"
