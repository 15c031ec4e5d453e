"""Explains: which requests, functions, statements or other processes caused a spike. Pure: frames in, findings out.

    frames of a host, in order ──▶ detect ──▶ a spike: onset, peak, end
    frames of the spike and of the time before it ──▶ explain ──▶ `report.Report`, one a host ──▶ one of all hosts

Nothing here knows Twisted, a store or a clock.
"""
