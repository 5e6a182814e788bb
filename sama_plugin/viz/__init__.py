"""Drawing mask tracks and region prompts on frames, and writing pictures and videos."""
