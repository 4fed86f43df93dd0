"""Folder: a run folder on local disk or behind any pyarrow.fs URI (s3://, gs://, file://)."""

import os
import uuid
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from pyarrow import fs

from trainers.spec import SpecError


@dataclass(frozen=True)
class Folder:
    """Reads and writes whole small files by name; a name may hold slashes.

    Every `write` is atomic: a reader sees the old content or the new, never a part (a rename on a
    local disk, one PUT on an object store).
    """

    filesystem: fs.FileSystem
    path: str
    location: str  # what the user gave: an absolute path or a URI

    @classmethod
    def open(cls, location: str | Path) -> Self:
        """Raises SpecError when the location cannot be understood."""
        text = str(location)
        if "://" not in text:
            absolute = os.path.abspath(os.path.expanduser(text))
            return cls(fs.LocalFileSystem(), absolute, absolute)
        try:
            filesystem, path = fs.FileSystem.from_uri(text)
        except (ValueError, OSError) as error:
            raise SpecError(f"{text}: not a folder or URI that can be opened: {error}") from None
        return cls(filesystem, path.rstrip("/"), text.rstrip("/"))

    def __truediv__(self, name: str) -> Self:
        base, mark, query = self.location.partition("?")  # s3://bucket/runs?endpoint_override=...
        if "://" not in base:
            base, mark, query = self.location, "", ""
        return type(self)(self.filesystem, f"{self.path}/{name}", f"{base}/{name}{mark}{query}")

    @property
    def is_local(self) -> bool:
        return isinstance(self.filesystem, fs.LocalFileSystem)

    def exists(self, name: str) -> bool:
        return self.filesystem.get_file_info(f"{self.path}/{name}").type != fs.FileType.NotFound

    def read(self, name: str) -> bytes | None:
        """The whole file, or None when there is none."""
        try:
            with self.filesystem.open_input_stream(f"{self.path}/{name}") as stream:
                return stream.read()
        except (FileNotFoundError, NotADirectoryError):
            return None

    def write(self, name: str, content: bytes) -> None:
        """Raises OSError when the disk is full or the folder is not writable."""
        target = f"{self.path}/{name}"
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
        """Writes a file that must not exist yet; False when it does.

        Exclusive on a local disk. Object stores through pyarrow have no exclusive create: there
        two writers within one round trip both succeed, and the last one is read back.
        """
        if not self.is_local:
            if self.exists(name):
                return False
            self.write(name, content)
            return self.read(name) == content
        target = Path(f"{self.path}/{name}")
        part = target.with_name(f"{target.name}.{uuid.uuid4().hex[:8]}.part")
        part.parent.mkdir(parents=True, exist_ok=True)
        part.write_bytes(content)
        try:
            os.link(part, target)
            return True
        except FileExistsError:
            return False
        finally:
            part.unlink()

    def append(self, name: str, content: bytes) -> None:
        """Adds to the end of a file. A kill can tear the last line; object stores, which cannot
        append, get the whole file anew."""
        if not self.is_local:
            self.write(name, (self.read(name) or b"") + content)
            return
        target = Path(f"{self.path}/{name}")
        target.parent.mkdir(parents=True, exist_ok=True)
        with target.open("ab") as stream:
            stream.write(content)

    def names(self) -> list[str]:
        """Files and folders directly inside, sorted; empty when the folder does not exist."""
        selector = fs.FileSelector(self.path, allow_not_found=True)
        infos = self.filesystem.get_file_info(selector)
        return sorted(info.base_name for info in infos if not info.base_name.endswith(".part"))

    def rename(self, name: str, new_name: str) -> None:
        self.filesystem.move(f"{self.path}/{name}", f"{self.path}/{new_name}")

    def delete(self, name: str) -> None:
        """Deletes a file or a folder with all it holds; nothing happens when there is none."""
        target = f"{self.path}/{name}".rstrip("/")
        match self.filesystem.get_file_info(target).type:
            case fs.FileType.Directory:
                self.filesystem.delete_dir(target)
            case fs.FileType.File:
                self.filesystem.delete_file(target)
