"""Texts that lm-evaluation-harness scored, and what it said of them."""

WINDOW = 64
"""The harness's ``max_length``: two of the texts are longer."""

TEXTS = (
    "Once upon a time there was a small dog who lived in a house by the sea. Every morning he ran "
    "along the beach and barked at the waves.\n\nOne day the waves were very high, and a little "
    'boat came in with the wind. In the boat there was a girl with a red hat. "Hello, dog," she '
    'said. "Do you want to come with me?" The dog thought about it for a moment, and then he '
    "jumped into the boat, and they were never seen again.\n",
    "def total(values):\n    result = 0\n    for value in values:\n        result += value\n"
    "    return result\n",
    " = Lighthouses =\n\nA lighthouse is a tower that is built to give light from a system of "
    "lamps and lenses, and to serve as a beacon for ships at sea or on inland waterways. Modern "
    "lighthouses — those of the 19th and 20th century — mark dangerous coasts, shoals, reefs, "
    "rocks and safe entries to harbours; they also assist in aerial navigation. Once widely used, "
    "their number has fallen, since keeping them is expensive and electronic navigation has become "
    "cheaper and better.",
    "A single line of text, with a naïve café in it.",
)
"""Prose, code, an encyclopaedia and a line; characters of more than one byte."""

FIGURES = {
    "zoo:target": {
        "word_perplexity": 1412.6455,
        "byte_perplexity": 3.995672,
        "bits_per_byte": 1.9984382,
    },
    "tiny": {
        "word_perplexity": 9.4341184e14,
        "byte_perplexity": 724.18877,
        "bits_per_byte": 9.500222,
    },
}
"""From lm-eval 0.4.13 with torch 2.13 and transformers 5.24 on a CPU, in float32."""
