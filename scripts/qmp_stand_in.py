#!/usr/bin/env python3
"""A stand-in for QEMU that answers QMP at once, for the section `vm` of scripts/bench.sh.

qmp_stand_in.py SOCKET IMAGE OFFSET SIZE STATUS: the guest's memory is at OFFSET of IMAGE, and the guest is `running`, or
QEMU waits for its state (`inmigrate`). It serves clients one after the other, until one says `quit` or has a guest resumed.
"""
import array
import json
import os
import socket
import sys
import threading

path, image, offset, size = sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4])
status, migration, given = sys.argv[5], "none", {}
resumes = status == "inmigrate"


def load(state):
    """Takes the state, which comes after the answer."""
    global status, migration
    while os.read(state, 65536):
        pass
    os.close(state)
    status, migration = "paused", "completed"


def answer(command, arguments, descriptors):
    """What QEMU returns."""
    global status, migration
    if command == "query-status":
        return {"status": status, "running": status == "running"}
    if command == "query-memdev":
        return [{"id": "m0", "size": size}]
    if command == "qom-get":
        return {"mem-path": image, "offset": offset, "share": True}[arguments["property"]]
    if command == "getfd":
        given[arguments["fdname"]] = descriptors.pop()
    elif command == "migrate":
        state = given.pop("gmfs-state")
        os.write(state, b"the state of the guest's devices")
        os.close(state)
        status, migration = "postmigrate", "completed"
    elif command == "migrate-incoming":
        migration = "active"
        threading.Thread(target=load, args=(given.pop("gmfs-state"),)).start()
    elif command == "query-migrate":
        return {"status": migration}
    elif command == "cont":
        status = "running"
    return {}


def talk(client):
    """Serves a client. True if it says that QEMU is to end."""
    version = {"qemu": {"major": 9, "minor": 0, "micro": 2}, "package": ""}
    client.sendall(json.dumps({"QMP": {"version": version}}).encode() + b"\n")
    buffer, descriptors = b"", array.array("i")
    while True:
        data, control, _, _ = client.recvmsg(65536, socket.CMSG_SPACE(16))
        for _, _, given_now in control:
            descriptors.frombytes(given_now)
        if not data:
            return False
        buffer += data
        while b"\n" in buffer:
            line, buffer = buffer.split(b"\n", 1)
            asked = json.loads(line)
            command = asked["execute"]
            returned = answer(command, asked.get("arguments", {}), descriptors)
            client.sendall(json.dumps({"return": returned, "id": asked.get("id")}).encode() + b"\n")
            if command == "quit":
                return True


server = socket.socket(socket.AF_UNIX)
server.bind(path)
server.listen()
while True:
    connection, _ = server.accept()
    if talk(connection) or (resumes and status == "running"):
        break
