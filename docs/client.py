"""Ask a running page from a program: python docs/client.py http://127.0.0.1:7860 photo.jpg 120,80,340,300."""

import base64
import sys
from pathlib import Path

from gradio_client import Client

address, photo, box = sys.argv[1:]
client = Client(address, verbose=False)
image = base64.b64encode(Path(photo).read_bytes()).decode()
boxes = [[float(number) for number in box.split(",")]]

results = client.predict(image=image, boxes=boxes, k=5, api_name="/search")
for hit in results:
    print(f"{hit['score']:.3f}\t{hit['id']}\t{hit['name']}\t{address}{hit['thumbnail']}")

ids = [hit["id"] for hit in results]
refined = client.predict(
    liked=ids[:1], disliked=ids[1:2], image=image, boxes=boxes, exclude=ids, k=5, api_name="/feedback"
)
print("after feedback on the first two:", ", ".join(hit["name"] for hit in refined))
print("caption:", client.predict(image=image, boxes=boxes, api_name="/caption"))
print("for a text:", client.predict(text="a boat on the sea", k=1, api_name="/search_text")[0]["name"])
