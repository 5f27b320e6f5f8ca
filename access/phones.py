"""Phone numbers: read as people write them, kept as E.164, shown masked, found again by a keyed hash."""

import phonenumbers

from kernel.crypto import KeyRing
from kernel.errors import CloudfilmError, Kind

HOME_REGION = "CN"


class InvalidPhone(CloudfilmError):
    """A text that is no phone number."""

    kind = Kind.UNPROCESSABLE

    def __init__(self) -> None:
        super().__init__("This is not a phone number.")


def normal_phone(text: str) -> str:
    """A number as E.164; without a country it is of mainland China. Raises InvalidPhone."""
    try:
        number = phonenumbers.parse(text[:40], HOME_REGION)
    except phonenumbers.NumberParseException:
        raise InvalidPhone from None
    if not phonenumbers.is_possible_number(number):
        raise InvalidPhone
    return str(phonenumbers.format_number(number, phonenumbers.PhoneNumberFormat.E164))


def masked(phone: str) -> str:
    """For people: `138****8000`; only the first three and the last four digits are shown."""
    national = phone.removeprefix("+86")
    return f"{national[:3]}****{national[-4:]}" if len(national) >= 8 else f"****{national[-2:]}"


def phone_index(keys: KeyRing, phone: str) -> str:
    """The keyed hash under which a number is found again."""
    return keys.blind_index(f"phone {phone}")
