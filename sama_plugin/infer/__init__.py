"""Conversations about a video: sessions, grounded answers, and the page that shows them."""
