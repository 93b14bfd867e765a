def main(inputs):
    pass
