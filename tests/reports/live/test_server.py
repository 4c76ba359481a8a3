"""What a live report answers, and to whom: nothing of the machine but the page and three files of the run."""

import http.client
import os
import socket
import struct
import threading

import pytest

from common.errors import BadInput
from reports.live.server import Server, own_file


@pytest.fixture
def server(tmp_path):
    folder = tmp_path / "runs" / "tiny"
    folder.mkdir(parents=True)
    (folder / "report.pdf").write_bytes(b"%PDF of the run")
    (folder / "experiment.json").write_text("private")
    (tmp_path / "secret.csv").write_text("secret")
    with Server(folder, "127.0.0.1", 0) as made:
        made.page, made.version = b"<p>page", "v1"
        thread = threading.Thread(target=made.serve_forever, kwargs={"poll_interval": 0.05})
        thread.start()
        yield made
        made.shutdown()
        thread.join()


def ask(server, path, *, method="GET", host=None):
    """Status and body; the path goes out as it is, which no browser would do."""
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=10)
    connection.putrequest(method, path, skip_host=True)
    connection.putheader("Host", host or f"127.0.0.1:{server.port}")
    connection.endheaders()
    answer = connection.getresponse()
    body = answer.read()
    connection.close()
    return answer.status, body


def test_the_page_its_version_and_the_report_are_served(server):
    assert ask(server, "/") == (200, b"<p>page")
    assert ask(server, "/version") == (200, b'{"version": "v1"}')
    assert ask(server, "/report.pdf?x=1") == (200, b"%PDF of the run")
    assert ask(server, "/report.pdf", method="HEAD") == (200, b"")


@pytest.mark.parametrize(
    "path",
    [
        "/../../secret.csv",
        "/results.csv/../../../secret.csv",
        "/%2e%2e/%2e%2e/secret.csv",
        "/..%2f..%2fsecret.csv",
        "/..\\..\\secret.csv",
        "//etc/passwd",
        "/etc/passwd",
        "/experiment.json",
        "/report.pdf/",
        "/./report.pdf",
        "/report.pdf%00.csv",
        "/.lock",
        "/" + "a" * 5000,
        "http://127.0.0.1/experiment.json",
        "*",
    ],
)
def test_nothing_else_can_be_read(server, path):
    status, body = ask(server, path)
    assert status == 404
    assert b"secret" not in body
    assert b"private" not in body


def test_a_link_in_the_place_of_a_file_is_not_followed(server, tmp_path):
    (server.folder / "results.csv").symlink_to(tmp_path / "secret.csv")
    assert ask(server, "/results.csv")[0] == 404
    os.mkfifo(server.folder / "verdicts.csv")
    assert ask(server, "/verdicts.csv")[0] == 404
    assert own_file(tmp_path) is None


def test_another_site_that_lets_its_name_point_here_is_refused(server):
    assert ask(server, "/", host="evil.example")[0] == 421
    assert ask(server, "/", host="10.0.0.7")[0] == 421
    assert ask(server, "/", host=f"localhost:{server.port}")[0] == 200


def test_where_all_may_ask_any_address_is_ours_but_no_other_name(tmp_path):
    with Server(tmp_path, "0.0.0.0", 0) as everywhere:
        assert everywhere.is_named("10.0.0.7:8000")
        assert everywhere.is_named("[::1]:8000")
        assert not everywhere.is_named("evil.example")
        assert not everywhere.is_named(None)


def test_who_leaves_before_asking_is_not_spoken_of(server, capsys):
    with socket.create_connection(("127.0.0.1", server.port)) as leaving:
        leaving.sendall(b"GET / HT")
        leaving.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))  # a reset, no farewell
    assert ask(server, "/")[0] == 200
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "OPTIONS"])
def test_nothing_can_be_sent(server, method):
    assert ask(server, "/", method=method)[0] == 501


def test_this_machine_alone_reaches_it_unless_asked_for(server):
    assert server.server_address[0] == "127.0.0.1"


def test_an_address_that_cannot_be_had_is_one_line(server, tmp_path):
    for host, port, said in (
        ("127.0.0.1", server.port, f"got --port {server.port}, which is taken: want a free one; leave --port out"),
        ("127.0.0.1", 70000, "got --port 70000: want one from 1 to 65535; leave --port out"),
        ("192.0.2.1", 0, "got --host 192.0.2.1 ("),
    ):
        with pytest.raises(BadInput) as caught:
            Server(tmp_path, host, port)
        assert str(caught.value).startswith(said)
