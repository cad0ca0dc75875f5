"""Everything that orders pictures: exact search, fusion of scores, the head cache, relevance feedback."""
