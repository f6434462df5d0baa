"""An MCP server on standard input and output, for agents: its tools append what they are called with, as
JSON, to the file that is named.
"""

import json
import sys

RECORD = {
    "count": {"type": "integer"},
    "exact": {"type": "boolean"},
    "names": {"type": "array", "items": {"type": "string"}},
    "options": {"type": "object", "properties": {"depth": {"type": "integer"}}},
}
TOOLS = [
    {
        "name": "stamp",
        "description": "Writes an empty line.",
        "inputSchema": {"type": "object", "properties": {}},
    },
    {
        "name": "record",
        "description": "Writes a record.",
        "inputSchema": {"type": "object", "properties": RECORD, "required": ["count"]},
    },
]


def answer(method, parameters):
    if method == "initialize":
        server = {"name": "lines", "version": "1"}
        version = parameters["protocolVersion"]
        return {"protocolVersion": version, "capabilities": {"tools": {}}, "serverInfo": server}
    if method == "tools/list":
        return {"tools": TOOLS}
    if method == "tools/call":
        line = [parameters["name"], parameters.get("arguments", {})]
        with open(sys.argv[1], "a") as file:
            print(json.dumps(line), file=file)
        return {"content": [{"type": "text", "text": f"written: {line[0]}"}]}
    return {}


for line in sys.stdin:
    request = json.loads(line)
    if "id" in request:
        result = answer(request["method"], request.get("params", {}))
        print(json.dumps({"jsonrpc": "2.0", "id": request["id"], "result": result}), flush=True)
