#!/usr/bin/env bash
# What a FHIR client library (HAPI's, Firely's) sends, by curl: its headers, its formats, its order of requests.
#
#     examples/fhir-client.sh http://127.0.0.1:8080/fhir TOKEN
#
# Prints a line for each step; ends with 1 at the first that is not answered as R4 says.
set -euo pipefail
base=${1:?the FHIR base URL} token=${2:?an access token}
run=$(date +%s%N)
XML='application/fhir+xml;q=1.0, application/fhir+json;q=1.0' # HAPI's Accept
JSON='application/fhir+json'
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT

ask() { # ask STATUS METHOD PATH [curl arguments]: the body is in $folder/body, the head in $folder/head
  local status=$1 method=$2 path=$3 found
  shift 3
  [[ $path == http* ]] || path="$base$path"
  found=$(curl -sS -X "$method" "$path" -H "Authorization: Bearer $token" -H 'User-Agent: HAPI-FHIR/8.2.0' \
    -H 'Accept-Charset: utf-8' -H 'Accept-Encoding: gzip' --compressed \
    -D "$folder/head" -o "$folder/body" -w '%{http_code}' "$@")
  if [[ $found != "$status" ]]; then
    echo "FAILED $method $path: $found, not $status" && cat "$folder/body" && exit 1
  fi
  echo "ok $method ${path#"$base"} $found"
}
says() { tr -d '\r' < "$folder/$1" | grep -qi -- "$2" || { echo "FAILED: no $2"; cat "$folder/$1"; exit 1; }; }
header() { tr -d '\r' < "$folder/head" | sed -n "s/^$1: //Ip"; }
next() { grep -o '"relation": *"next", *"url": *"[^"]*"' "$folder/body" | sed 's/.*"url": *"//; s/"$//'; }

patient() { # a Patient as XML, as HAPI writes it
  echo "<Patient xmlns=\"http://hl7.org/fhir\"><identifier><system value=\"urn:client\"/><value value=\"$run\"/>"
  echo "</identifier><name><family value=\"$1\"/><given value=\"Anna\"/></name><gender value=\"female\"/></Patient>"
}

ask 200 GET /metadata -H "Accept: $XML"
says body '<fhirVersion value="4.0.1"/>'
ask 201 POST /Patient -H "Accept: $XML" -H 'Content-Type: application/fhir+xml; charset=UTF-8' \
  -H 'Prefer: return=representation' -H "If-None-Exist: identifier=urn:client|$run" -d "$(patient Muster)"
says body '<family value="Muster"/>'
place=$(header Location)
place=${place%/_history/*}
[[ $place == "$base"/Patient/* ]]
ask 200 POST /Patient -H "Accept: $XML" -H 'Content-Type: application/fhir+xml' \
  -H "If-None-Exist: identifier=urn:client|$run" -d "$(patient Muster)"
ask 200 GET "$place" -H "Accept: $XML"
etag=$(header ETag)
ask 304 GET "$place" -H "Accept: $XML" -H "If-None-Match: $etag"
id=${place##*/}
ask 200 PUT "/Patient?identifier=urn%3Aclient%7C$run" -H "Accept: $JSON" -H "Content-Type: $JSON; charset=UTF-8" \
  -d "{\"resourceType\":\"Patient\",\"id\":\"$id\",\"identifier\":[{\"system\":\"urn:client\",\"value\":\"$run\"}],\"active\":true}"
ask 412 PUT "/Patient/$id" -H "Accept: $JSON" -H "Content-Type: $JSON" -H "If-Match: $etag" \
  -d "{\"resourceType\":\"Patient\",\"id\":\"$id\"}"
says body OperationOutcome
ask 200 PATCH "/Patient/$id" -H "Accept: $JSON" -H 'Content-Type: application/json-patch+json' \
  -d '[{"op":"replace","path":"/active","value":false}]'
says body '"active":false'

entries=""
for number in 1 2 3; do
  entries+="{\"fullUrl\":\"urn:uuid:0000000$number-0000-4000-8000-000000000000\",\"request\":{\"method\":\"POST\",\"url\":\"Observation\"},"
  entries+="\"resource\":{\"resourceType\":\"Observation\",\"status\":\"final\",\"code\":{\"text\":\"x\"},"
  entries+="\"subject\":{\"reference\":\"Patient?identifier=urn:client|$run\"},\"valueInteger\":$number}},"
done
ask 200 POST "" -H "Accept: $JSON" -H "Content-Type: $JSON" \
  -d "{\"resourceType\":\"Bundle\",\"type\":\"transaction\",\"entry\":[${entries%,}]}"
says body '"transaction-response"'
ask 200 POST /Observation/_search -H "Accept: $JSON" -H 'Content-Type: application/x-www-form-urlencoded' \
  --data-urlencode "subject=Patient/$id" -d _count=2 -d _include=Observation:subject -d _total=accurate
says body '"total":3'
says body "\"id\":\"$id\""
further=$(next)
[[ -n $further ]]
ask 200 GET "$further" -H "Accept: $JSON"
says body '"relation": *"previous"'
ask 200 GET "/Patient/$id/\$everything?_format=json" -H "Accept: $XML"
says body '"resourceType": *"Bundle"'
ask 200 GET "/Patient/$id/_history?_format=xml&_pretty=true" -H "Accept: $XML"
says body '<type value="history"/>'
ask 200 POST "/Patient/\$validate" -H "Accept: $XML" -H 'Content-Type: application/fhir+xml' -d "$(patient Muster)"
says body OperationOutcome
ask 400 GET "/Patient?nosuch=1" -H "Accept: $XML"
says body '<OperationOutcome'
ask 200 GET "/Patient?nosuch=1&_id=$id" -H "Accept: $JSON" -H 'Prefer: handling=lenient'
ask 200 DELETE "/Observation?subject=Patient/$id&_count=10" -H "Accept: $JSON" -H 'Prefer: return=OperationOutcome'
ask 204 DELETE "/Patient/$id" -H "Accept: $XML"
ask 410 GET "/Patient/$id" -H "Accept: $XML"
echo "every step was answered as R4 says"
