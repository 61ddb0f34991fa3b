"""What lies over a PDF page rather than in it: values of a form, stamps, text written into it later."""

from __future__ import annotations

import pypdfium2
import pypdfium2.raw as pdfium

# What shows no words of its own: links, and the windows that open beside other notes.
SILENT = frozenset((pdfium.FPDF_ANNOT_LINK, pdfium.FPDF_ANNOT_POPUP))
MOST = 20_000


def drawn_over(page: pypdfium2.PdfPage) -> bool:
    """Draw what lies over the page into it, so that it is read where it stands; whether there was anything to draw.

    The page shows it only once it is loaded again.
    """
    for index in range(min(MOST, pdfium.FPDFPage_GetAnnotCount(page.raw))):
        note = pdfium.FPDFPage_GetAnnot(page.raw, index)
        if note:
            kind = pdfium.FPDFAnnot_GetSubtype(note)
            pdfium.FPDFPage_CloseAnnot(note)
            if kind not in SILENT:
                return bool(pdfium.FPDFPage_Flatten(page.raw, pdfium.FLAT_NORMALDISPLAY) == pdfium.FLATTEN_SUCCESS)
    return False
