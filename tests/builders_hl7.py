"""Small HL7 v2 messages for tests."""

from itertools import count

NUMBERS = count(1)
PID = (
    "PID|1||1001^^^HIS^MR||张^伟^^^^^^I~Zhang^Wei^^^^^^A||19850612|M|||学府路306号^^成都市^四川省"
    "||13912345678"
)


def message(
    message_type: str,
    *segments: str,
    control_id: str = "",
    version: str = "2.5.1",
    charset: str = "UNICODE UTF-8",
    accept: str = "",
    application_accept: str = "",
) -> bytes:
    """A message of a hospital's system, each with a control id of its own unless one is given."""
    control_id = control_id or f"C{next(NUMBERS)}"
    msh = (
        f"MSH|^~\\&|HIS|H1|CLOUDFILM|H1|20260301083000||{message_type}|{control_id}|P|{version}|||"
        f"{accept}|{application_accept}||{charset}"
    )
    encoding = {"GB 18030-2000": "gb18030", "8859/1": "gb18030"}.get(charset, "utf-8")
    return ("\r".join((msh, *segments)) + "\r").encode(encoding)


def adt_a04(pid: str = PID, **header: str) -> bytes:
    """A registration."""
    visit = "PV1|1|O|||||||||||||||||V77^^^HIS"
    return message("ADT^A04^ADT_A01", "EVN||20260301083000", pid, visit, **header)


def omi_o23(control: str = "NW", pid: str = PID, accession: str = "A0001", **header: str) -> bytes:
    """An imaging order."""
    return message(
        "OMI^O23^OMI_O23",
        pid,
        f"ORC|{control}|P1^HIS|F1^RIS||IP",
        "TQ1|||||||20260302093000||S",
        "OBR|1|P1^HIS|F1^RIS|CT01^胸部CT平扫^LOCAL||||||||||||9001^吴^刚",
        f"IPC|{accession}|RP1||SPS1|CT|||CT1|CTAE1",
        **header,
    )


def oru_r01(status: str = "F", text: str = "双肺未见明显异常", pid: str = PID, **header: str) -> bytes:
    """A report as text, with an impression."""
    procedure = "CT01^胸部CT平扫^LOCAL|||20260302100000|||||||||||A0001"
    return message(
        "ORU^R01^ORU_R01",
        pid,
        f"OBR|1|P1^HIS|R1^RIS|{procedure}|||||||{status}|||||||9002&钱&明",
        "OBX|1|TX|FIND^检查所见||双肺纹理清晰。~气管居中。||||||F",
        f"OBX|2|TX|IMP^诊断意见||{text}||||||F",
        **header,
    )
