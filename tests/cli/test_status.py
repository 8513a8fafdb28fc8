from tests.cli.conftest import Daemon, Run


def test_without_a_gateway_it_is_refused_with_what_to_do(gw: Run):
    told = gw("status")
    assert told.code == 1
    assert "start it with `mlx-gateway serve`" in told.error
    assert gw("status", "--json").error


def test_a_running_gateway_tells_what_it_does_in_people_s_units(gw: Run, daemon: Daemon):
    out = gw("status").out
    lines = [" ".join(line.split()) for line in out.splitlines()]
    assert "version 9.9" in lines
    assert "uptime 1 h 2 min" in lines
    assert "local memory 2.5 GB" in lines
    assert "Local models" in lines
    assert "demo ready 0" in lines
    assert "openai a cooling" in lines
    assert not any("problems" in line for line in lines)
    assert gw("status", "--json").json["version"] == "9.9"
