"""From a recording to a judgement: replay evaluation offline, and comparing two of its reports."""
