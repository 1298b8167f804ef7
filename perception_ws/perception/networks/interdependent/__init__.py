"""The interdependent multi-task network: AdapNet++ segmentation with a trident detector fed by its decoder."""

from perception.networks.interdependent.config import INTERDEPENDENT_LITE, INTERDEPENDENT_SMALL, InterdependentConfig
from perception.networks.interdependent.network import InterdependentNetwork

__all__ = ['INTERDEPENDENT_LITE', 'INTERDEPENDENT_SMALL', 'InterdependentConfig', 'InterdependentNetwork']
