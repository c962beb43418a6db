from typing import Any
class PromiseClient:
    def __init__(self, network: Any) -> None: self.network = network
class ScheduleClient(PromiseClient): pass
class Schedule: pass
def network_for(*a: Any) -> Any: raise NotImplementedError
