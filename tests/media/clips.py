"""Recipes of small video files of every awkward kind, made by ffmpeg."""

from __future__ import annotations

import subprocess

SIZE = (64, 80)  # height, width
PATTERN = "-f lavfi -i testsrc2=size=80x64:rate=25:duration=2.4"
H264 = "-c:v libx264 -preset veryfast -pix_fmt yuv420p -g 12 -bf 3"
OPEN_GOP = "-c:v libx264 -preset veryfast -pix_fmt yuv420p -bf 3 -x264-params open-gop=1:keyint=10"

CLIPS = {
    "closed.mp4": f"{PATTERN} {H264}",
    "one_group.mkv": f"{PATTERN} -c:v libx264 -preset veryfast -pix_fmt yuv420p",
    "open_gop.mp4": f"{PATTERN} {OPEN_GOP}",
    "open_gop.mkv": f"{PATTERN} {OPEN_GOP}",
    "hevc.mp4": f"{PATTERN} -c:v libx265 -x265-params log-level=error:keyint=15 -preset ultrafast",
    "varying_rate.mp4": f"{PATTERN} -vf select=not(mod(n\\,3))+lt(n\\,20) -fps_mode vfr {H264}",
    "vp8.webm": f"{PATTERN} -c:v libvpx -deadline realtime -cpu-used 8 -g 20",
    "mpeg4.avi": f"{PATTERN} -c:v mpeg4",
    "no_timestamps.avi": f"{PATTERN} -c:v mpeg4 -bf 2 -g 12",
    "faststart.mp4": f"{PATTERN} {H264} -movflags +faststart",
    "turned_90.mp4": "-display_rotation 90 -i {closed.mp4} -c copy",
    "turned_180.mp4": "-display_rotation 180 -i {closed.mp4} -c copy",
    "turned_270.mov": "-display_rotation 270 -i {closed.mp4} -c copy",
    "cut.mp4": "-ss 0.7 -i {closed.mp4} -c copy",
    "cut.mkv": "-ss 0.7 -i {closed.mp4} -c copy",
    "cut_open_gop.mp4": "-ss 0.7 -i {open_gop.mp4} -c copy",
    "cut_hevc.mp4": "-ss 0.7 -i {hevc.mp4} -c copy",
    "one_frame.mp4": f"{PATTERN} -frames:v 1 {H264}",
    "sound.mp4": "-f lavfi -i sine=duration=0.2",
}


def ffmpeg(*arguments: str) -> bytes:
    import imageio_ffmpeg

    command = [imageio_ffmpeg.get_ffmpeg_exe(), "-nostdin", "-v", "error", "-y", *arguments]
    return subprocess.run(command, capture_output=True, check=True).stdout
