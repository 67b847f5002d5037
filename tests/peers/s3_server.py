"""An S3 server (moto) on loopback with one bucket, `recordings`, and one access key that may use it.

Prints one JSON line: {"endpoint", "access_key", "secret_key"}; runs until its standard input ends. Requests are
authenticated: a wrong secret is refused as S3 refuses it.
"""

import json
import os
import sys

os.environ["INITIAL_NO_AUTH_ACTION_COUNT"] = "5"
os.environ.setdefault("AWS_EC2_METADATA_DISABLED", "true")

import logging

import boto3
from moto.server import ThreadedMotoServer

logging.getLogger("werkzeug").setLevel(logging.ERROR)
port = int(sys.argv[1]) if len(sys.argv) > 1 else 0
server = ThreadedMotoServer(ip_address="127.0.0.1", port=port, verbose=False)
server.start()
host, port = server.get_host_and_port()
endpoint = f"http://127.0.0.1:{port}"


def client(service):
    return boto3.client(
        service,
        endpoint_url=endpoint,
        region_name="us-east-1",
        aws_access_key_id="first",
        aws_secret_access_key="first",
    )


# The five requests that need no key: from then on everything does.
client("s3").create_bucket(Bucket="recordings")
iam = client("iam")
iam.create_user(UserName="recorder")
policy = {"Version": "2012-10-17", "Statement": [{"Effect": "Allow", "Action": "s3:*", "Resource": "*"}]}
iam.put_user_policy(UserName="recorder", PolicyName="all", PolicyDocument=json.dumps(policy))
key = iam.create_access_key(UserName="recorder")["AccessKey"]
# Anything may be the fifth.
iam.list_users()

print(
    json.dumps({"endpoint": endpoint, "access_key": key["AccessKeyId"], "secret_key": key["SecretAccessKey"]}),
    flush=True,
)
sys.stdin.read()
server.stop()
