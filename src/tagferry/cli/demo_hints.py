"""Commands to try against the regions of `tagferry demo --keep`: curl, the SDK, docker and skopeo."""

import shlex
import shutil
import sys
from pathlib import Path

from tagferry.app import FirstAdmin
from tagferry.names import RegionId


def text(urls: dict[RegionId, str], admin: FirstAdmin) -> str:
    """Return commands to paste into another terminal."""
    source, target = urls.values()
    source_host, target_host = source.removeprefix("http://"), target.removeprefix("http://")
    variables = "\n".join(
        f"export HUAWEICLOUD_SDK_REGION_SWR_{name.upper().replace('-', '_')}={url}" for name, url in urls.items()
    )
    return f"""
The regions run until Ctrl-C. In another terminal:

# credentials and endpoints
export CLOUD_SDK_AK={admin.key.access_key} CLOUD_SDK_SK={admin.key.secret_key}
export TAGFERRY_ENDPOINT={source}
{variables}
export HUAWEICLOUD_SDK_IAM_ENDPOINT={source}

# the command line
{_path()}tagferry sync team/shop/web:v1 --to cn-north-208/release

# curl, with an IAM token
TOKEN=$(curl -s -D - -o /dev/null {source}/v3/auth/tokens -H 'Content-Type: application/json' -d '{{"auth":
  {{"identity": {{"methods": ["password"], "password": {{"user": {{"name": "{admin.name}",
   "password": "{admin.password}"}}}}}}, "scope": {{"project": {{"name": "cn-north-4"}}}}}}}}' |
  tr -d '\\r' | awk 'tolower($1) == "x-subject-token:" {{print $2}}')
curl -i '{source}/v2/manage/namespaces/team/repos/shop$web/sync_images' -H "X-Auth-Token: $TOKEN" \\
  -H 'Content-Type: application/json' \\
  -d '{{"imageTag": ["v1"], "remoteNamespace": "release", "remoteRegionId": "cn-north-208"}}'

# the SWR SDK for Python (pip install huaweicloudsdkswr), with the variables above
python3 - <<'PY'
import os
from huaweicloudsdkcore.auth.credentials import BasicCredentials
from huaweicloudsdkswr.v2 import ListReposDetailsRequest, SwrClient
from huaweicloudsdkswr.v2.region.swr_region import SwrRegion
credentials = BasicCredentials(os.environ["CLOUD_SDK_AK"], os.environ["CLOUD_SDK_SK"])
client = SwrClient.new_builder().with_credentials(credentials).with_region(SwrRegion.value_of("cn-north-4")).build()
print(client.list_repos_details(ListReposDetailsRequest()))
PY

# skopeo
skopeo inspect --raw --tls-verify=false --creds '{admin.name}:{admin.password}' \\
  docker://{target_host}/release/shop/web:v1

# docker (127.0.0.1 counts as an insecure registry by default)
docker login {source_host} -u {admin.name} -p '{admin.password}'
docker pull {source_host}/team/shop/web:v1
"""


def _path() -> str:
    """Return a line that makes `tagferry` a command; empty if it is one already, or is not beside its Python."""
    folder = Path(sys.executable).parent
    if shutil.which("tagferry") is not None or not (folder / "tagferry").exists():
        return ""
    return f"export PATH={shlex.quote(str(folder))}:$PATH\n"
