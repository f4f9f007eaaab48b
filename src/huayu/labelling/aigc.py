"""The machine-readable label "made by AI", as one XMP packet.

Two properties are written. ``TC260:AIGC`` holds the implicit label that China's GB 45438-2025 asks for, a JSON object
of seven texts; ``Iptc4xmpExt:DigitalSourceType`` holds the IPTC's term for media made by a trained model.

Source: field names and meanings: https://cloud.tencent.com/document/api/460/122025 ; namespace and place of the
property: the practice guide TC260-PG-20259A, as used by https://github.com/OPN48/cntc260 ; IPTC:
https://cv.iptc.org/newscodes/digitalsourcetype/ and the IPTC Photo Metadata Standard.
"""

from __future__ import annotations

import json
import re
from xml.sax.saxutils import escape

TRAINED_MEDIA = "http://cv.iptc.org/newscodes/digitalsourcetype/trainedAlgorithmicMedia"
FIELDS = (
    "Label",
    "ContentProducer",
    "ProduceID",
    "ReservedCode1",
    "ContentPropagator",
    "PropagateID",
    "ReservedCode2",
)
_GENERATED = "1"

_PACKET = """<?xpacket begin="\ufeff" id="W5M0MpCehiHzreSzNTczkc9d"?>
<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#">
<rdf:Description rdf:about="" xmlns:TC260="http://www.tc260.org.cn/ns/AIGC/1.0/"
 xmlns:Iptc4xmpExt="http://iptc.org/std/Iptc4xmpExt/2008-02-29/" xmlns:xmp="http://ns.adobe.com/xap/1.0/">
<TC260:AIGC>{aigc}</TC260:AIGC>
<Iptc4xmpExt:DigitalSourceType>{source}</Iptc4xmpExt:DigitalSourceType>
<xmp:CreatorTool>{tool}</xmp:CreatorTool>
</rdf:Description></rdf:RDF></x:xmpmeta>
<?xpacket end="w"?>"""


def implicit_label(producer: str, produce_id: str) -> dict[str, str]:
    """The seven fields for content that is surely generated.

    The propagator's two are for whoever spreads it, the reserved codes for signatures: all are left empty.
    """
    return dict.fromkeys(FIELDS, "") | {"Label": _GENERATED, "ContentProducer": producer, "ProduceID": produce_id}


def xmp_packet(producer: str, produce_id: str, tool: str) -> str:
    """Both labels as XMP text."""
    label = json.dumps(implicit_label(producer, produce_id), ensure_ascii=False, separators=(",", ":"))
    return _PACKET.format(aigc=escape(label), source=TRAINED_MEDIA, tool=escape(_printable(tool)))


def _printable(text: str) -> str:
    """XML has no control characters."""
    return re.sub(r"[\x00-\x1f\x7f\ufffe\uffff]", "", text)
