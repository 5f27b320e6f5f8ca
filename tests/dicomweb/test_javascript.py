"""dicomweb-client (JavaScript), the client inside OHIF, in Node."""

import json

import requests

from tests.browser.npm_tools import run_module
from tests.builders import ROOT, ct_slice
from tests.live import LiveServer

SCRIPT = """
import * as all from 'dicomweb-client';
import { createRequire } from 'node:module';
const require = createRequire(process.cwd() + '/x.js');
globalThis.XMLHttpRequest ??= require('xhr2');
const { api } = all.default ?? all;
const [url, token, study, series, instance] = process.argv.slice(1);
const client = new api.DICOMwebClient({ url, headers: { Authorization: `Bearer ${token}` } });
const uids = { studyInstanceUID: study, seriesInstanceUID: series, sopInstanceUID: instance };
const studies = await client.searchForStudies({ queryParams: { PatientID: 'JS1' } });
const metadata = await client.retrieveSeriesMetadata(uids);
const frames = await client.retrieveInstanceFrames({ ...uids, frameNumbers: [1] });
const whole = await client.retrieveInstance(uids);
console.log(JSON.stringify({
  studies: studies.length,
  name: studies[0]['00100010'].Value[0].Ideographic,
  metadata: metadata.length,
  frame: frames[0].byteLength,
  whole: whole.byteLength,
}));
"""


def test_the_client_of_ohif_searches_and_retrieves(live_server: LiveServer) -> None:
    data = ct_slice(61, PatientID="JS1", PatientName="Jie^San=张^伟")
    token = live_server.token()
    requests.post(
        f"{live_server.url}/dicomweb/studies", data=data, timeout=60,
        headers={"Authorization": f"Bearer {token}", "Content-Type": "application/dicom"},
    ).raise_for_status()  # fmt: skip

    printed = run_module(
        SCRIPT, f"{live_server.url}/dicomweb", token, f"{ROOT}.61", f"{ROOT}.61.1", f"{ROOT}.61.1.1"
    )

    found = json.loads(printed.splitlines()[-1])
    assert found == {
        "studies": 1, "name": "张^伟", "metadata": 1, "frame": 128, "whole": len(data),
    }  # fmt: skip
