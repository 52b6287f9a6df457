from .ab_report import experiment_report as experiment_report
from .start import run_service as run_service
from .traffic import TrafficLog as TrafficLog
