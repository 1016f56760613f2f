"""Small files in the formats of the real data sets, for the tests of their readers."""

import io
import json
import tarfile

from PIL import Image

COLOURS = ("red", "green", "blue")


def jpeg(colour, size=(32, 24)):
    file = io.BytesIO()
    Image.new("RGB", size, colour).save(file, "JPEG", quality=95)
    return file.getvalue()


def write_shard(path, samples):
    """Write a tar as img2dataset does: NNNNNNNNN.jpg, .json and .txt of each sample, one after the other."""
    members = []
    for key, picture, caption in samples:
        about = {"caption": caption, "key": key, "status": "success", "width": 32, "height": 24}
        parts = {"jpg": picture, "json": json.dumps(about).encode(), "txt": caption.encode()}
        members += [(f"{key}.{ending}", content) for ending, content in parts.items()]
    write_tar(path, members)


def write_coco(folder, **changes):
    """Write a folder of two pictures, 7 and 3, in COCO's formats; `changes` replace whole files."""
    (folder / "images").mkdir(parents=True)
    pictures = [{"id": number, "file_name": f"{number}.jpg"} for number in (7, 3)]
    for picture, colour in zip(pictures, COLOURS, strict=False):
        (folder / "images" / picture["file_name"]).write_bytes(jpeg(colour))
    files = {
        "captions": {
            "images": pictures,
            "annotations": [
                {"id": 1, "image_id": 3, "caption": "Two dogs."},
                {"id": 2, "image_id": 7, "caption": "A bus."},
                {"id": 3, "image_id": 3, "caption": "Dogs, two of them."},
            ],
        },
        "instances": {
            "images": pictures,
            "annotations": [
                {"id": 1, "image_id": 3, "category_id": 18},
                {"id": 2, "image_id": 3, "category_id": 18},
                {"id": 3, "image_id": 3, "category_id": 6},
            ],
            "categories": [{"id": 18, "name": "dog"}, {"id": 6, "name": "bus"}],
        },
        "web_captions": {
            "images": pictures,
            "annotations": [
                {"id": 1, "image_id": 7, "caption": "BUS!!!"},
                {"id": 2, "image_id": 3, "caption": "my dogs :)"},
            ],
        },
        **changes,
    }
    for name, value in files.items():
        (folder / f"{name}.json").write_text(json.dumps(value), encoding="utf-8")
    return folder


def write_tar(path, members):
    """Write a tar of (name, bytes) pairs or whole `TarInfo`s."""
    with tarfile.open(path, mode="w") as tar:
        for member in members:
            if isinstance(member, tarfile.TarInfo):
                tar.addfile(member)
                continue
            name, content = member
            entry = tarfile.TarInfo(name)
            entry.size = len(content)
            tar.addfile(entry, io.BytesIO(content))


def encoded(image, kind, **options):
    """Return a picture's file as bytes."""
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()
