"""One record of each annotation file of the paper, in the official release's shape."""

NARRATIVE = {
    "dataset_id": "mscoco_val2017",
    "image_id": "137576",
    "annotator_id": 93,
    "caption": "In this image there are group of cows.",
    "timed_caption": [{"utterance": "In this", "start_time": 0.0, "end_time": 0.4}],
    "traces": [[{"x": 0.2086, "y": -0.0533, "t": 0.022}], []],
    "voice_recording": "coco_val/coco_val_137576_93.ogg",
}
CHOICE = {
    "split": "train",
    "image_id": 299207,
    "question_id": "22MexNkBPpdZGX6sxbxVBH",
    "question": "What is the man by the bags awaiting?",
    "choices": ["skateboarder", "train", "delivery", "cab"],
    "correct_choice_idx": 3,
    "direct_answers": ["ride", "ride", "bus", "taxi", "travelling", "traffic", "taxi", "cab", "cab", "ride"],
    "difficult_direct_answer": False,
    "rationales": ["A train would not be on the street.", "He is by the road.", "He waits for a cab."],
}
GRAPH = {
    "semantic": [{"operation": "select", "dependencies": [], "argument": "sky (2486325)"}],
    "entailed": ["02930160"],
    "equivalent": ["02930152"],
    "question": "Is the sky dark?",
    "imageId": "2354786",
    "isBalanced": True,
    "groups": {"global": None, "local": "06-sky_dark"},
    "answer": "yes",
    "semanticStr": "select: sky (2486325)->verify color: dark [0]",
    "annotations": {"answer": {}, "question": {"2": "2486325"}, "fullAnswer": {"2": "2486325"}},
    "types": {"detailed": "verifyAttr", "semantic": "attr", "structural": "verify"},
    "fullAnswer": "Yes, the sky is dark.",
}
YES_NO = {
    "question_id": 1,
    "image": "COCO_val2014_000000310196.jpg",
    "text": "Is there a snowboard in the image?",
    "label": "yes",
}
REFERENCE = {
    "sent_ids": [0, 1],
    "file_name": "COCO_train2014_000000581857_16.jpg",
    "ann_id": 1719310,
    "ref_id": 0,
    "image_id": 581857,
    "split": "train",
    "sentences": [
        {"tokens": ["the", "lady"], "raw": "THE LADY", "sent_id": 0, "sent": "the lady"},
        {"tokens": ["woman"], "raw": "woman", "sent_id": 1, "sent": "woman"},
    ],
    "category_id": 1,
}
INSTANCES = {
    "images": [{"id": 581857, "file_name": "COCO_train2014_000000581857.jpg", "width": 640, "height": 427}],
    "annotations": [
        {"id": 1719310, "image_id": 581857, "category_id": 1, "bbox": [103.93, 299.99, 134.22, 177.42]}
    ],
    "categories": [{"id": 1, "name": "person", "supercategory": "person"}],
}
REGIONS = {
    "id": 1,
    "regions": [
        {
            "region_id": 1382,
            "width": 82,
            "height": 139,
            "image_id": 1,
            "phrase": "the clock is green in colour",
            "y": 57,
            "x": 421,
        }
    ],
}
RELATIONSHIPS = {
    "image_id": 1,
    "relationships": [
        {
            "predicate": "ON",
            "relationship_id": 15927,
            "synsets": ["along.r.01"],
            "subject": {"name": "shade", "object_id": 5045, "x": 119, "y": 338, "w": 274, "h": 192},
            "object": {"names": ["street"], "object_id": 5046, "x": 77, "y": 328, "w": 714, "h": 262},
        }
    ],
}
