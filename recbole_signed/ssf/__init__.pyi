from .filter import SpectralFilter as SpectralFilter
from .settings import FilterSettings as FilterSettings
from .ssf import SSF as SSF
from .transition import TransitionSums as TransitionSums
