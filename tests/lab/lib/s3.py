"""Makes buckets: s3.py ENDPOINT ACCESS SECRET BUCKET[+lock]... (a signed PUT each; a bucket that is there is fine)."""
import datetime, hashlib, hmac, sys, urllib.error, urllib.parse, urllib.request

endpoint, access, secret = sys.argv[1:4]
host = urllib.parse.urlsplit(endpoint).netloc


def mac(key, text):
    return hmac.new(key, text.encode(), hashlib.sha256).digest()


for spec in sys.argv[4:]:
    bucket, lock = spec.removesuffix("+lock"), spec.endswith("+lock")
    now = datetime.datetime.now(datetime.timezone.utc).strftime("%Y%m%dT%H%M%SZ")
    headers = {"host": host, "x-amz-content-sha256": hashlib.sha256(b"").hexdigest(), "x-amz-date": now}
    if lock:
        headers["x-amz-bucket-object-lock-enabled"] = "true"
    names = sorted(headers)
    request = "\n".join(["PUT", f"/{bucket}", "", *(f"{n}:{headers[n]}" for n in names), "", ";".join(names), headers["x-amz-content-sha256"]])
    scope = f"{now[:8]}/us-east-1/s3/aws4_request"
    key = ("AWS4" + secret).encode()
    for part in scope.split("/"):
        key = mac(key, part)
    text = "\n".join(["AWS4-HMAC-SHA256", now, scope, hashlib.sha256(request.encode()).hexdigest()])
    signature = mac(key, text).hex()
    del headers["host"]
    headers["Authorization"] = f"AWS4-HMAC-SHA256 Credential={access}/{scope}, SignedHeaders={';'.join(names)}, Signature={signature}"
    try:
        urllib.request.urlopen(urllib.request.Request(f"{endpoint}/{bucket}", method="PUT", headers=headers), timeout=10)
    except urllib.error.HTTPError as e:
        if e.code != 409:
            sys.exit(f"{bucket}: {e.code} {e.read().decode(errors='replace')}")
