-- Tables of the clinic profile that are too large to be invented: the vendor's own names and types.

CREATE TABLE `securitylog` (
  `SecurityLogNum` bigint NOT NULL AUTO_INCREMENT,
  `PermType` smallint NOT NULL,
  `UserNum` bigint NOT NULL,
  `LogDateTime` datetime NOT NULL DEFAULT '0001-01-01 00:00:00',
  `LogText` text DEFAULT NULL,
  `PatNum` bigint NOT NULL,
  `CompName` varchar(255) NOT NULL,
  `FKey` bigint NOT NULL,
  `LogSource` tinyint NOT NULL,
  `DefNum` bigint NOT NULL,
  `DefNumError` bigint NOT NULL,
  `DateTPrevious` datetime NOT NULL DEFAULT '0001-01-01 00:00:00',
  PRIMARY KEY (`SecurityLogNum`),
  KEY `idx_LogDateTime` (`LogDateTime`)
) ENGINE=MyISAM DEFAULT CHARSET=utf8mb3 COLLATE=utf8mb3_general_ci;

CREATE TABLE `securityloghash` (
  `SecurityLogHashNum` bigint NOT NULL AUTO_INCREMENT,
  `SecurityLogNum` bigint NOT NULL,
  `LogHash` varchar(255) NOT NULL,
  PRIMARY KEY (`SecurityLogHashNum`)
) ENGINE=MyISAM DEFAULT CHARSET=utf8mb3 COLLATE=utf8mb3_general_ci;

CREATE TABLE `sheetfield` (
  `SheetFieldNum` bigint NOT NULL AUTO_INCREMENT,
  `SheetNum` bigint NOT NULL,
  `FieldType` int NOT NULL,
  `FieldName` varchar(255) DEFAULT NULL,
  `FieldValue` text DEFAULT NULL,
  `FontSize` float NOT NULL,
  `FontName` varchar(255) DEFAULT NULL,
  `FontIsBold` tinyint NOT NULL,
  `XPos` int NOT NULL,
  `YPos` int NOT NULL,
  `Width` int NOT NULL,
  `Height` int NOT NULL,
  `GrowthBehavior` int NOT NULL,
  `RadioButtonValue` varchar(255) NOT NULL,
  `RadioButtonGroup` varchar(255) NOT NULL,
  `IsRequired` tinyint NOT NULL,
  `TabOrder` int NOT NULL,
  `ReportableName` varchar(255) DEFAULT NULL,
  `TextAlign` tinyint NOT NULL,
  `ItemColor` int NOT NULL DEFAULT -16777216,
  `DateTimeSig` datetime NOT NULL DEFAULT '0001-01-01 00:00:00',
  `IsLocked` tinyint NOT NULL,
  `TabOrderMobile` int NOT NULL,
  `UiLabelMobile` text NOT NULL,
  `UiLabelMobileRadioButton` text NOT NULL,
  `SheetFieldDefNum` bigint NOT NULL,
  `CanElectronicallySign` tinyint NOT NULL,
  `IsSigProvRestricted` tinyint NOT NULL,
  `UserSigned` bigint NOT NULL,
  PRIMARY KEY (`SheetFieldNum`)
) ENGINE=MyISAM DEFAULT CHARSET=utf8mb3 COLLATE=utf8mb3_general_ci;

CREATE TABLE `commlog` (
  `CommlogNum` bigint NOT NULL AUTO_INCREMENT,
  `PatNum` bigint NOT NULL,
  `CommDateTime` datetime NOT NULL DEFAULT '0001-01-01 00:00:00',
  `CommType` bigint NOT NULL,
  `Note` text DEFAULT NULL,
  `Mode_` tinyint unsigned NOT NULL DEFAULT 0,
  `SentOrReceived` tinyint unsigned NOT NULL DEFAULT 0,
  `UserNum` bigint NOT NULL,
  `Signature` text NOT NULL,
  `SigIsTopaz` tinyint NOT NULL,
  `DateTStamp` timestamp NOT NULL DEFAULT current_timestamp() ON UPDATE current_timestamp(),
  `DateTimeEnd` datetime NOT NULL DEFAULT '0001-01-01 00:00:00',
  `CommSource` tinyint DEFAULT NULL,
  `ProgramNum` bigint NOT NULL,
  `DateTEntry` datetime NOT NULL DEFAULT '0001-01-01 00:00:00',
  `ReferralNum` bigint NOT NULL,
  `CommReferralBehavior` tinyint NOT NULL,
  PRIMARY KEY (`CommlogNum`)
) ENGINE=MyISAM DEFAULT CHARSET=utf8mb3 COLLATE=utf8mb3_general_ci;

CREATE TABLE `periomeasure` (
  `PerioMeasureNum` bigint NOT NULL AUTO_INCREMENT,
  `PerioExamNum` bigint NOT NULL,
  `SequenceType` tinyint unsigned NOT NULL DEFAULT 0,
  `IntTooth` smallint NOT NULL,
  `ToothValue` smallint NOT NULL,
  `MBvalue` smallint NOT NULL,
  `Bvalue` smallint NOT NULL,
  `DBvalue` smallint NOT NULL,
  `MLvalue` smallint NOT NULL,
  `Lvalue` smallint NOT NULL,
  `DLvalue` smallint NOT NULL,
  `SecDateTEntry` datetime NOT NULL DEFAULT '0001-01-01 00:00:00',
  `SecDateTEdit` timestamp NOT NULL DEFAULT current_timestamp() ON UPDATE current_timestamp(),
  PRIMARY KEY (`PerioMeasureNum`),
  KEY `idx_SecDateTEdit` (`SecDateTEdit`)
) ENGINE=MyISAM DEFAULT CHARSET=utf8mb3 COLLATE=utf8mb3_general_ci;

CREATE TABLE `procnote` (
  `ProcNoteNum` bigint NOT NULL AUTO_INCREMENT,
  `PatNum` bigint NOT NULL,
  `ProcNum` bigint NOT NULL,
  `EntryDateTime` datetime NOT NULL DEFAULT '0001-01-01 00:00:00',
  `UserNum` bigint NOT NULL,
  `Note` text DEFAULT NULL,
  `SigIsTopaz` tinyint unsigned NOT NULL,
  `Signature` text DEFAULT NULL,
  PRIMARY KEY (`ProcNoteNum`)
) ENGINE=MyISAM DEFAULT CHARSET=utf8mb3 COLLATE=utf8mb3_general_ci;

CREATE TABLE `document` (
  `DocNum` bigint NOT NULL AUTO_INCREMENT,
  `Description` varchar(255) DEFAULT '',
  `DateCreated` datetime NOT NULL,
  `DocCategory` bigint NOT NULL,
  `PatNum` bigint NOT NULL,
  `FileName` varchar(255) DEFAULT '',
  `ImgType` tinyint unsigned NOT NULL DEFAULT 0,
  `IsFlipped` tinyint unsigned NOT NULL DEFAULT 0,
  `DegreesRotated` float NOT NULL,
  `ToothNumbers` varchar(255) DEFAULT '',
  `Note` mediumtext NOT NULL,
  `SigIsTopaz` tinyint unsigned NOT NULL,
  `Signature` text DEFAULT NULL,
  `CropX` int NOT NULL,
  `CropY` int NOT NULL,
  `CropW` int NOT NULL,
  `CropH` int NOT NULL,
  `WindowingMin` int NOT NULL,
  `WindowingMax` int NOT NULL,
  `MountItemNum` bigint NOT NULL,
  `DateTStamp` timestamp NOT NULL DEFAULT current_timestamp() ON UPDATE current_timestamp(),
  `RawBase64` mediumtext NOT NULL,
  `Thumbnail` text NOT NULL,
  `ExternalGUID` varchar(255) NOT NULL,
  `ExternalSource` varchar(255) NOT NULL,
  `ProvNum` bigint NOT NULL,
  `IsCropOld` tinyint unsigned NOT NULL,
  `OcrResponseData` text NOT NULL,
  `ImageCaptureType` tinyint NOT NULL DEFAULT 0,
  `PrintHeading` tinyint NOT NULL,
  `ChartLetterStatus` tinyint NOT NULL,
  `UserNum` bigint NOT NULL,
  `ChartLetterHash` varchar(255) NOT NULL,
  PRIMARY KEY (`DocNum`)
) ENGINE=MyISAM DEFAULT CHARSET=utf8mb3 COLLATE=utf8mb3_general_ci;
