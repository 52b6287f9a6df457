from .responsiveness import respond as respond
