"""Drawing tracks and prompts on frames, and writing pictures and videos."""
