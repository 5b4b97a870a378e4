"""How the page of a chat looks, in light and in dark."""

#: On top of gradio's own theme: what is said, and what its theme leaves too faint or too wide.
CSS = """
.gradio-container { max-width: 1240px !important; overflow-wrap: anywhere }
.gradio-container h1 { font-size: 1.5rem; margin: .4rem 0 }
.gradio-container h2 { font-size: 1rem; margin: .2rem 0 .4rem }
.talk { border: 1px solid var(--border-color-primary); border-radius: 8px; padding: .4rem .9rem;
  height: 22rem; overflow-y: auto; overflow-anchor: none }
.talk .turn { margin: .6rem 0 }
.talk .assistant { padding-left: .7rem; border-left: 2px solid #3b82c4 }
.talk .who { margin: 0; font-size: .8rem }
.talk .text { margin: .1rem 0 0; white-space: pre-wrap }
.who, .note, [role=status] { color: #4b5563 } .note { font-size: .85rem }
.dark .who, .dark .note, .dark [role=status] { color: #b8c0cc }
:focus-visible { outline: 2px solid #3b82c4 !important; outline-offset: 2px }
@media (max-width: 640px) { .talk { height: 15rem } }
"""
SCRIPT = ""
