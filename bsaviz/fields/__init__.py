"""What a model looks at: named probes, receptive fields, gates, and the numbers beside them."""

from bsaviz import _accessors  # noqa: F401  (results carry `.bsa`)
from bsaviz.fields.dataset import save
from bsaviz.fields.gating import gates
from bsaviz.fields.probing import POINTS, Record, probe, probe_names
from bsaviz.fields.receptive import KINDS, receptive_field
from bsaviz.fields.summaries import summary
from bsaviz.fields.tracing import LayerTrace

__all__ = [
    "KINDS",
    "POINTS",
    "LayerTrace",
    "Record",
    "gates",
    "probe",
    "probe_names",
    "receptive_field",
    "save",
    "summary",
]
