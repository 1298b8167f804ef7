"""From a recording to a judgement: replay evaluation offline."""
