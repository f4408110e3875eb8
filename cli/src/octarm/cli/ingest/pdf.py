"""Text of PDF files, by page."""

import io
from typing import Final

from pypdf import PdfReader
from pypdf.errors import FileNotDecryptedError, PyPdfError

from octarm.cli.ingest.document import Unreadable

MAX_PAGES: Final = 2_000
MAX_CHARS: Final = 20_000_000
# What the library meets in a damaged file and does not name.
_DAMAGE: Final = (
    ArithmeticError,
    AttributeError,
    LookupError,
    NotImplementedError,
    RecursionError,
    TypeError,
    ValueError,
)


def pages_of(data: bytes) -> list[str]:
    """Give the text of each page. What is hostile may take for ever: see `child`.

    Raises:
        Unreadable: not a PDF, a broken, an encrypted or a huge one.
    """
    try:
        return _pages(PdfReader(io.BytesIO(data), strict=False))
    except FileNotDecryptedError:
        raise Unreadable("encrypted: it needs a password") from None
    except PyPdfError as error:
        raise Unreadable(f"a broken PDF: {error}") from None
    except _DAMAGE as error:
        raise Unreadable(f"a broken PDF: {type(error).__name__}") from None


def _pages(reader: PdfReader) -> list[str]:
    if reader.is_encrypted and not reader.decrypt(""):
        raise Unreadable("encrypted: it needs a password")
    if len(reader.pages) > MAX_PAGES:
        raise Unreadable(f"more than {MAX_PAGES:,} pages")
    pages: list[str] = []
    length = 0
    for page in reader.pages:
        pages.append(page.extract_text().strip())
        length += len(pages[-1])
        if length > MAX_CHARS:
            raise Unreadable(f"more than {MAX_CHARS:,} characters")
    return pages
