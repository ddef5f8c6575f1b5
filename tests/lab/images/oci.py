"""Packs a root file system as an OCI image archive: oci.py NAME ROOTFS OUT.tar [CONFIG-JSON]. One layer, not compressed,
the same input gives the same bytes but for the files' own times. Does not push, pull or unpack anything."""
import hashlib, io, json, os, sys, tarfile, tempfile

name, rootfs, out = sys.argv[1:4]
config = json.loads(sys.argv[4]) if len(sys.argv) > 4 else {}


def sha(path):
    h = hashlib.sha256()
    with open(path, "rb") as f:
        while block := f.read(1 << 20):
            h.update(block)
    return h.hexdigest()


work = tempfile.mkdtemp(dir=os.path.dirname(os.path.abspath(out)))
layer = os.path.join(work, "layer")
with tarfile.open(layer, "w", format=tarfile.PAX_FORMAT) as t:
    for entry in sorted(os.listdir(rootfs)):
        t.add(os.path.join(rootfs, entry), arcname=entry, filter=lambda i: None if i.isdev() else i)
digest, size = sha(layer), os.path.getsize(layer)
arch = {"x86_64": "amd64", "aarch64": "arm64"}.get(os.uname().machine, os.uname().machine)
blobs = []


def blob(obj, kind):
    data = json.dumps(obj, sort_keys=True).encode()
    d = hashlib.sha256(data).hexdigest()
    blobs.append((f"blobs/sha256/{d}", data))
    return {"mediaType": kind, "digest": f"sha256:{d}", "size": len(data)}


image = blob({"architecture": arch, "os": "linux", "config": config,
              "rootfs": {"type": "layers", "diff_ids": [f"sha256:{digest}"]}}, "application/vnd.oci.image.config.v1+json")
manifest = blob({"schemaVersion": 2, "mediaType": "application/vnd.oci.image.manifest.v1+json", "config": image, "layers": [
    {"mediaType": "application/vnd.oci.image.layer.v1.tar", "digest": f"sha256:{digest}", "size": size}]},
    "application/vnd.oci.image.manifest.v1+json")
manifest["annotations"] = {"io.containerd.image.name": name, "org.opencontainers.image.ref.name": name.rpartition(":")[2]}
index = {"schemaVersion": 2, "manifests": [manifest]}
with tarfile.open(out + ".new", "w") as t:
    for path, data in [("oci-layout", b'{"imageLayoutVersion":"1.0.0"}'), ("index.json", json.dumps(index).encode()), *blobs]:
        info = tarfile.TarInfo(path); info.size = len(data)
        t.addfile(info, io.BytesIO(data))
    t.add(layer, arcname=f"blobs/sha256/{digest}")
os.replace(out + ".new", out)
os.remove(layer); os.rmdir(work)
