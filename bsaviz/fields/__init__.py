"""What a model looks at: named probes, receptive fields, gates, and the numbers beside them."""

from bsaviz import _accessors  # noqa: F401  (results carry `.bsa`)
from bsaviz.fields.collecting import KINDS
from bsaviz.fields.dataset import save
from bsaviz.fields.gating import gates
from bsaviz.fields.landmarks import LANDMARKS, landmarks
from bsaviz.fields.memory import estimate
from bsaviz.fields.probing import POINTS, Record, probe, probe_names
from bsaviz.fields.receptive import receptive_field
from bsaviz.fields.regions import Region
from bsaviz.fields.summaries import summary
from bsaviz.fields.trace import Trace
from bsaviz.fields.tracing import LayerTrace

__all__ = [
    "KINDS",
    "LANDMARKS",
    "POINTS",
    "LayerTrace",
    "Record",
    "Region",
    "Trace",
    "estimate",
    "gates",
    "landmarks",
    "probe",
    "probe_names",
    "receptive_field",
    "save",
    "summary",
]
