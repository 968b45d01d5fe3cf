"""Which request goes where and when: queue, deadline, batching, routing, retry, shedding. No clock, no I/O."""
