def main(inputs):
    for number in range(inputs["lines"]):
        print(f"line {number:08d} " + "x" * 80)
