"""How the page of a chat looks, in light and in dark."""

#: On top of gradio's own theme: what is said, and what its theme leaves too faint or too wide.
CSS = """
.gradio-container { max-width: 1240px !important; overflow-wrap: anywhere }
.gradio-container h1 { font-size: 1.5rem; margin: .4rem 0 }
.gradio-container h2 { font-size: 1.05rem; margin: .2rem 0 .4rem }
/* The newest turn is in sight: a reversed column keeps its end where it scrolls. */
.talk { border: 1px solid #8b95a3; border-radius: 8px; padding: .4rem .9rem; height: 22rem;
  overflow-y: auto; display: flex; flex-direction: column-reverse; justify-content: flex-end }
.talk .turn { margin: .6rem 0 }
.talk .assistant { padding-left: .7rem; border-left: 2px solid #3b82c4 }
.talk .who { margin: 0; font-size: .8rem }
.talk .said { margin: .1rem 0 0; white-space: pre-wrap }
.who, .known, .told { color: var(--block-info-text-color); font-size: .85rem }
.known { margin-left: .5rem }
#threshold .max_value, #threshold .min_value { color: inherit }
:focus-visible { outline: 2px solid #3b82c4 !important; outline-offset: 2px }
@media (max-width: 640px) { .talk { height: 15rem } }
"""
#: Colours of gradio's own parts that would stand out too little from their ground.
COLOURS = {
    "block_info_text_color": "*neutral_600",
    "block_info_text_color_dark": "*neutral_300",
    "block_label_text_color": "*neutral_700",
    "block_label_text_color_dark": "*neutral_200",
    "block_title_text_color": "*neutral_700",
    "block_title_text_color_dark": "*neutral_200",
    "body_text_color_subdued": "*neutral_600",
    "body_text_color_subdued_dark": "*neutral_300",
    "button_primary_background_fill": "*primary_700",
    "button_primary_background_fill_hover": "*primary_800",
    "button_primary_background_fill_dark": "*primary_700",
    "button_primary_text_color": "white",
    "input_border_width": "1px",
    "input_border_color": "*neutral_500",
    "input_border_color_dark": "*neutral_400",
}
