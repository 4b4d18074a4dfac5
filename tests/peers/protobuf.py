"""Messages of protocol buffers by hand: a message is pairs of a field's number and its value."""


def varint(number):
    out = b""
    number &= (1 << 64) - 1
    while number > 0x7F:
        out += bytes([number & 0x7F | 0x80])
        number >>= 7
    return out + bytes([number])


def encode(pairs):
    """Numbers are varints; text, bytes and lists of pairs have a length."""
    out = b""
    for field, value in pairs:
        if isinstance(value, int):
            out += varint(field << 3) + varint(value)
            continue
        if isinstance(value, list):
            value = encode(value)
        if isinstance(value, str):
            value = value.encode()
        out += varint(field << 3 | 2) + varint(len(value)) + value
    return out


def decode(content):
    """The pairs, where what has a length is bytes."""
    at = 0

    def number():
        nonlocal at
        value, shift = 0, 0
        while True:
            byte = content[at]
            at += 1
            value |= (byte & 0x7F) << shift
            shift += 7
            if byte < 0x80:
                return value

    pairs = []
    while at < len(content):
        key = number()
        if key & 7 == 0:
            pairs.append((key >> 3, number()))
            continue
        length = {1: 8, 5: 4}.get(key & 7) or number()
        pairs.append((key >> 3, content[at : at + length]))
        at += length
    return pairs
