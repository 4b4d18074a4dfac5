"""HTTP/1.1 by hand over sockets: what a client library would tidy up has to stay as it was sent."""

import socket

PATIENCE_S = 10


class Reader:
    """Bytes of a connection, read as they are asked for."""

    def __init__(self, connection):
        self.connection = connection
        self.unread = b""

    def more(self):
        piece = self.connection.recv(65536)
        self.unread += piece
        return bool(piece)

    def until(self, mark):
        """The bytes through `mark`; None when the connection ends before it."""
        while mark not in self.unread:
            if not self.more():
                return None
        at = self.unread.index(mark) + len(mark)
        found, self.unread = self.unread[:at], self.unread[at:]
        return found

    def exactly(self, length):
        """`length` bytes, or fewer when the connection ends before."""
        while len(self.unread) < length and self.more():
            pass
        found, self.unread = self.unread[:length], self.unread[length:]
        return found

    def rest(self):
        while self.more():
            pass
        return self.exactly(len(self.unread))

    def chunked(self):
        """The content of a chunked body; None when it is cut short."""
        content = b""
        while True:
            line = self.until(b"\r\n")
            if line is None:
                return None
            length = int(line.split(b";")[0], 16)
            if length == 0:
                while (line := self.until(b"\r\n")) != b"\r\n":
                    if line is None:
                        return None
                return content
            piece = self.exactly(length + 2)
            if len(piece) < length + 2:
                return None
            content += piece[:length]


def split_head(head):
    """The first line, and the header lines as pairs with lower-case names."""
    first, *lines = head.decode("latin-1").split("\r\n")[:-2]
    pairs = [line.partition(":") for line in lines]
    return first, [(name.lower(), value.strip()) for name, _, value in pairs]


def by_name(pairs):
    """Header values by name, the order of the lines of one name kept."""
    found = {}
    for name, value in pairs:
        found.setdefault(name, []).append(value)
    return found


class Answer:
    """A response as it came; `status` 0 is a connection that ended without one."""

    def __init__(self, status=0, headers=None, body=b"", interim=()):
        self.status = status
        self.headers = headers or {}
        self.body = body
        self.interim = list(interim)


def read_answer(reader, method):
    interim = []
    while True:
        head = reader.until(b"\r\n\r\n")
        if head is None:
            return Answer(interim=interim)
        first, pairs = split_head(head)
        status = int(first.split(" ")[1])
        if status >= 200:
            break
        interim.append(status)
    headers = by_name(pairs)
    if method == "HEAD" or status in (204, 304):
        body = b""
    elif "chunked" in headers.get("transfer-encoding", []):
        body = reader.chunked()
    elif "content-length" in headers:
        length = int(headers["content-length"][0])
        body = reader.exactly(length)
        if len(body) < length:
            body = None
    else:
        body = reader.rest()
    return Answer(status, headers, body, interim)


def ask(port, request):
    """Sends these bytes on a new connection and reads one answer."""
    method = request.split(b" ", 1)[0].decode("latin-1")
    with socket.create_connection(("127.0.0.1", port), timeout=PATIENCE_S) as connection:
        reader = Reader(connection)
        try:
            connection.sendall(request)
            return read_answer(reader, method)
        except ConnectionError:
            return Answer()
