def main(inputs):
    return {"out": 1}
